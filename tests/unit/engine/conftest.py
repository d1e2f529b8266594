"""A loop on fakes for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.engine.fakes import Bench


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    """Make loops that end with the test."""
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield make
    for bench in made:
        bench.world.on_train = lambda names: None
        bench.loop.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()
