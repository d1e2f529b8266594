"""The node-local cache: raw data and weights that every process of a machine can share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

CACHE_VARIABLE = "FPT_RAY_CACHE"


def cache_dir() -> Path:
    """Find the cache: ``FPT_RAY_CACHE`` where it is set, else ``~/.cache/fpt_ray``."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/fpt_ray").expanduser()


def write_once(path: Path, write: Callable[[Path], None]) -> None:
    """Make a file unless it exists; of several processes one makes it and the others wait.

    Args:
        path: the file; it appears complete or not at all.
        write: fills the temporary file that it is given.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.exists():
            return
        temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
        try:
            write(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
