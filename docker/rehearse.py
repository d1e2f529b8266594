"""Run the Dockerfile's steps without Docker, in an empty virtual environment, as far as they go.

    python docker/rehearse.py DIR --build-arg TORCH_INDEX=https://pypi.org/simple

The image's folders are folders below DIR/root, and its Python is that of DIR/venv, made with the
Python that runs this. Steps that need root are named and left out. The exit status is that of the
first step that fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CONTEXT = Path(__file__).parent.parent
NEEDS_ROOT = ("apt-get", "useradd")


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction's name and text: lines joined, comments left out."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    for instruction in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if instruction.strip():
            name, _, text = instruction.strip().partition(" ")
            yield name.upper(), text.strip()


class Rehearsal:
    """An image that is made of a folder and a virtual environment.

    Args:
        folder: where both go; must not exist.
        build_args: values for the Dockerfile's ARGs.
    """

    def __init__(self, folder: Path, build_args: dict[str, str]) -> None:
        self._root = folder / "root"
        self._root.mkdir(parents=True)
        self._build_args = build_args
        self._cwd = self._root
        own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        self._environment = {**own, "PATH": f"{folder / 'venv' / 'bin'}:{os.environ['PATH']}"}
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)

    def follow(self, name: str, text: str) -> int:
        """Do what an instruction says; return its exit status."""
        steps = {"ARG": self._arg, "ENV": self._env, "WORKDIR": self._workdir, "COPY": self._copy}
        if name == "RUN":
            return self._run(text)
        if name in steps:
            steps[name](self._expand(text))
        else:
            print(f"==> nothing to do: {name} {text}", flush=True)
        return 0

    def _expand(self, text: str) -> str:
        return re.sub(
            r"\$(?:(\w+)|\{(\w+)\})",
            lambda match: self._environment.get(match.group(1) or match.group(2), ""),
            text,
        )

    def _arg(self, text: str) -> None:
        name, _, default = text.partition("=")
        self._environment[name] = self._build_args.get(name, default)

    def _env(self, text: str) -> None:
        self._environment |= dict(each.split("=", 1) for each in shlex.split(text))

    def _workdir(self, text: str) -> None:
        self._cwd = self._root / text.removeprefix("/")
        self._cwd.mkdir(parents=True, exist_ok=True)

    def _copy(self, text: str) -> None:
        *sources, destination = (word for word in text.split() if not word.startswith("--"))
        for source in sources:
            found, place = CONTEXT / source, self._cwd / destination
            if found.is_dir():
                shutil.copytree(found, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(found, place)

    def _run(self, command: str) -> int:
        if command.startswith(NEEDS_ROOT):
            print(f"==> left out, needs root: {command}", flush=True)
            return 0
        print(f"==> {command}", flush=True)
        began = time.monotonic()
        done = subprocess.run(["/bin/sh", "-c", command], cwd=self._cwd, env=self._environment)
        print(f"==> exit {done.returncode} after {time.monotonic() - began:.0f} s", flush=True)
        return done.returncode


def rehearse(dockerfile: str, folder: Path, build_args: dict[str, str]) -> int:
    """Follow a Dockerfile until a step fails; return the last step's exit status."""
    rehearsal = Rehearsal(folder, build_args)
    return next(
        (status for step in instructions(dockerfile) if (status := rehearsal.follow(*step))), 0
    )


def main() -> int:
    """Rehearse docker/Dockerfile."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    build_args = dict(each.split("=", 1) for each in given.build_arg)
    return rehearse((CONTEXT / "docker" / "Dockerfile").read_text(), given.folder, build_args)


if __name__ == "__main__":
    sys.exit(main())
