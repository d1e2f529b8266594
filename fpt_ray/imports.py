"""Import large packages, and end with them, without looking for garbage on the way."""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def large_imports() -> Iterator[None]:
    """Import torch, transformers or Ray Tune inside, in four fifths of the time.

    Their hundred thousands of objects make the collector run again and again, and once more when
    the process ends; nothing of what they are is ever garbage.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def end_quickly() -> None:
    """Have this process end without a last search for garbage, which takes more than a second."""
    atexit.register(gc.freeze)
