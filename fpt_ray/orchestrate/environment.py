"""What a sweep ran with: versions, commit and devices, one entry for every start of its driver."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray

from fpt_ray.storage import RunDirectory

COMMIT_VARIABLE = "FPT_RAY_COMMIT"
"""Set in the image of docker/Dockerfile, which holds no checkout."""

PACKAGES = ("fpt-ray", "ray", "torch", "transformers", "optuna", "numpy", "pyarrow", "safetensors")


def record_start(run: RunDirectory) -> None:
    """Add this start of the driver to ``environment.json``."""
    former = run.read_json(RunDirectory.ENVIRONMENT) or {"runs": []}
    run.write_json(RunDirectory.ENVIRONMENT, {"runs": [*former["runs"], _this_start()]})


def _this_start() -> dict[str, Any]:
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "fpt_ray.sweep", *_arguments()]),
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
        "devices": {
            "host": platform.node(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "cluster": {k: v for k, v in ray.cluster_resources().items() if ":" not in k},
        },
    }


def _arguments() -> list[str]:
    """Read the arguments of ``fpt_ray.sweep``; those of ``fpt-ray run`` have a word more."""
    given = sys.argv[1:]
    return given[1:] if given[:1] == ["run"] else given


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed as a package"
    return versions


def _commit() -> str | None:
    """Read the commit of the source that runs: of its checkout, or as its image says it.

    Returns:
        None where neither tells.
    """
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return os.environ.get(COMMIT_VARIABLE) or None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=source,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None
