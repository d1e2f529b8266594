from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fpt_ray.config import load_sweep
from fpt_ray.errors import SweepFileError

BASE = "task: {name: bit_xor}\nmodel: {backbone: minilm-l6, trained: [input, output]}\n"

Refuse = Callable[..., list[str]]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a sweep file whose first two lines are valid and complete."""

    def write_file(rest: str) -> Path:
        path = tmp_path / "s.yaml"
        path.write_text(BASE + rest, encoding="utf-8")
        return path

    return write_file


@pytest.fixture
def refuse(write: Callable[[str], Path]) -> Refuse:
    """Load a file that must be refused; return its problems' texts, the directory left out."""

    def refuse_file(rest: str, *overrides: str) -> list[str]:
        path = write(rest)
        with pytest.raises(SweepFileError) as caught:
            load_sweep(path, overrides)
        return [str(each).replace(f"{path.parent}/", "") for each in caught.value.problems]

    return refuse_file
