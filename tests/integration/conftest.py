"""What tests with a real Ray share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.pool_world import Sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Callable[..., Sweep]]:
    """Start pools with fake engines, and end them after the test."""
    started: list[Sweep] = []

    def start(**changes: Any) -> Sweep:
        started.append(Sweep(tmp_path, **changes))
        return started[-1]

    yield start
    for each in started:
        each.close()
