"""Measurements that others disturb, with made-up use of CPUs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise

import pytest
import torch

from fpt_ray.engine import quiet
from fpt_ray.engine.quiet import PATIENCE_S, Quiet, Usage, read_usage

CPU = torch.device("cpu")
ALONE, SHARED, ROOMY = Usage(2.0, 0.1, 0.0), Usage(1.0, 1.0, 0.0), Usage(2.0, 2.0, 4.0)


def reader(*spans: Usage) -> Iterator[Usage]:
    """Give the use of CPUs before and after each of some measurements."""

    def add(a: Usage, b: Usage) -> Usage:
        return Usage(a.own_s + b.own_s, a.others_s + b.others_s, a.idle_s + b.idle_s)

    for before_and_after in pairwise(accumulate(spans, add, initial=Usage(0.0, 0.0, 0.0))):
        yield from before_and_after


@pytest.mark.parametrize(("usage", "disturbed"), [(ALONE, False), (SHARED, True), (ROOMY, False)])
def test_others_disturb_where_no_cpu_is_left(usage: Usage, disturbed: bool) -> None:
    assert usage.is_disturbed is disturbed


def test_a_disturbed_measurement_is_repeated_and_the_least_counts() -> None:
    pauses: list[float] = []
    patient = Quiet(CPU, reader(SHARED, SHARED, ALONE).__next__, pauses.append)
    measured = patient.measure(iter([3.0, 1.0, 2.0]).__next__)
    assert measured == 1.0
    assert len(pauses) == 2
    assert not patient.gave_up


def test_patience_ends() -> None:
    pauses: list[float] = []
    patient = Quiet(CPU, reader(*[SHARED] * 1000).__next__, pauses.append)
    assert patient.measure(lambda: 1.0) == 1.0
    assert sum(pauses) == pytest.approx(PATIENCE_S, abs=1.0)
    before = len(pauses)
    assert patient.measure(lambda: 2.0) == 2.0
    assert len(pauses) == before
    assert patient.gave_up


def test_on_a_gpu_and_where_the_system_does_not_tell_once_is_enough() -> None:
    for device, read in ((torch.device("cuda"), lambda: SHARED), (CPU, lambda: None)):
        brief = Quiet(device, read)
        assert brief.measure(iter([1.0]).__next__) == 1.0
        assert not brief.gave_up


def test_the_use_of_this_machine_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_usage()
    if before is None:
        pytest.skip("there is no /proc/stat")
    while (spent := read_usage().since(before)).own_s < 0.2:  # type: ignore[union-attr]
        pass
    assert spent.others_s + spent.idle_s >= -0.1
    monkeypatch.setattr(quiet, "_STAT", quiet._STAT / "missing")
    assert read_usage() is None
