"""A node cache of their own for the tests of tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from fpt_ray.node_cache import CACHE_VARIABLE


@pytest.fixture(autouse=True)
def node_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's cache, empty."""
    folder = tmp_path / "node_cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder
