from __future__ import annotations

import re
from pathlib import Path

import pytest

from fpt_ray.orchestrate import environment


def test_the_commit_of_a_checkout_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment.COMMIT_VARIABLE, "of an image")
    if not (Path(environment.__file__).parents[2] / ".git").exists():
        pytest.skip("needs a git checkout; there is none here")
    commit = environment._commit()
    assert commit is not None
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commit)


def test_without_a_checkout_the_image_tells_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "fpt_ray" / "orchestrate" / "environment.py"
    monkeypatch.setattr(environment, "__file__", str(installed))
    monkeypatch.setenv(environment.COMMIT_VARIABLE, "0123abc")
    assert environment._commit() == "0123abc"
    monkeypatch.setenv(environment.COMMIT_VARIABLE, "")
    assert environment._commit() is None
