"""How many trials a pack takes, by rehearsals whose times and memory are made up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fpt_ray.engine import sizing
from fpt_ray.engine.quiet import Quiet
from fpt_ray.engine.sizing import LARGEST, Limits, Size, far_end, knee, measured_by

CPU = torch.device("cpu")


class Rehearsals:
    """A pack that only rehearses; ``seconds`` of a step follow from the number of copies."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self._seconds = seconds
        self.tried: list[int] = []
        self.calls = 0

    def rehearse(self, trial: Any, num_copies: int) -> float:
        self.calls += 1
        if num_copies not in self.tried:
            self.tried.append(num_copies)
        return self._seconds(num_copies)

    def size(self, cap: int | None = None) -> int:
        return measured_by(CPU, cap)(self, None).num_trials  # type: ignore[arg-type]


class Disturbed(Quiet):
    """Others never pause."""

    def measure(self, run: Callable[[], float]) -> float:
        self.gave_up = True
        return run()


def test_one_slow_rehearsal_does_not_end_the_growth() -> None:
    assert Rehearsals(lambda copies: 0.09 if copies == 2 else 0.01).size() == LARGEST["cpu"]


def test_steps_that_are_brief_are_looked_at_more_often_than_long_ones() -> None:
    brief = Rehearsals(lambda copies: 0.01 + max(0.0, copies - 4.0) / 100)
    assert (brief.size(), brief.tried) == (4, [1, 2, 4, 8, 16])
    assert brief.calls > 5 * len(brief.tried)
    long = Rehearsals(lambda copies: 1.0 + max(0.0, copies - 4.0))
    assert (long.size(), long.tried) == (4, [1, 2, 4, 8])
    assert long.calls == len(long.tried)


def test_the_smallest_pack_that_is_nearly_the_fastest_is_taken() -> None:
    assert Rehearsals(lambda copies: 0.01 * copies**0.97).size() == 1
    assert Rehearsals(lambda copies: 0.01 * copies**0.9).size() == LARGEST["cpu"]
    assert knee({1: 17.6, 2: 19.9, 4: 21.2, 8: 21.9, 16: 21.9, 32: 22.3}) == 8
    assert knee({}) == 1


def test_where_others_disturb_a_pack_is_rather_too_large_than_too_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def seconds(copies: int) -> float:
        return (0.05 if copies in (2, 4, 8) else 0.02) * copies

    quiet = Rehearsals(seconds)
    assert (quiet.size(), quiet.tried) == (1, [1, 2, 4])
    monkeypatch.setattr(sizing, "Quiet", Disturbed)
    busy = Rehearsals(seconds)
    assert (busy.size(), busy.tried[-1]) == (LARGEST["cpu"], LARGEST["cpu"])
    assert far_end({1: 17.6, 2: 25.0, 4: 12.0, 8: 20.0, 16: 19.0}) == 8
    assert far_end({}) == 1


def test_the_largest_pack_is_bounded() -> None:
    assert Rehearsals(lambda copies: 1.0).size() == LARGEST["cpu"]
    assert Rehearsals(lambda copies: 1.0).size(cap=3) == 2
    alone = Rehearsals(lambda copies: 1.0)
    assert alone.size(cap=1) == 1
    assert alone.tried == []


def test_a_device_that_is_busy_is_given_no_larger_packs() -> None:
    rehearsals = Rehearsals(lambda copies: copies**0.8)
    assert (rehearsals.size(), rehearsals.tried) == (4, [1, 2, 4])


def test_memory_that_runs_out_ends_the_growth() -> None:
    def seconds(copies: int) -> float:
        if copies > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1.0

    assert Rehearsals(seconds).size() == 8


def test_memory_that_would_run_out_ends_the_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    rehearsals = Rehearsals(lambda copies: 1.0)
    monkeypatch.setattr(sizing, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(sizing, "peak_bytes", lambda device: 100 * len(rehearsals.tried))
    assert rehearsals.size() == LARGEST["cpu"]
    steep = Rehearsals(lambda copies: 1.0)
    monkeypatch.setattr(sizing, "peak_bytes", lambda device: 75 * sum(steep.tried))
    assert steep.size() == 4


def test_a_trial_that_cannot_even_rehearse_trains_alone() -> None:
    def seconds(copies: int) -> float:
        raise ArithmeticError("bad luck")

    assert Rehearsals(seconds).size() == 1


def test_a_lost_gpu_ends_more_than_a_rehearsal() -> None:
    def seconds(copies: int) -> float:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    with pytest.raises(torch.AcceleratorError):
        Rehearsals(seconds).size()


def test_keys_of_one_shape_are_measured_once() -> None:
    measured: list[str] = []

    def measure(pack: Any, trial: str) -> Size:
        measured.append(trial)
        return Size(16)

    limits = Limits("auto", measure, shape_of=lambda key: key[0])
    for key in ("a1", "a2", "b1", "a1"):
        limits.settle(key, None, key)  # type: ignore[arg-type]
    assert measured == ["a1", "b1"]
    assert limits.describe() == [16, 16, 16]


def test_a_number_is_taken_as_it_is() -> None:
    limits = Limits(5, lambda pack, trial: pytest.fail("measured"))
    limits.settle("k", None, None)  # type: ignore[arg-type]
    assert (limits.of("k"), limits.of("other"), limits.size) == (5, 5, 5)


def test_a_limit_is_halved_by_what_was_tried_and_never_below_one() -> None:
    limits = Limits("auto", lambda pack, trial: Size(32))
    assert limits.size is None
    limits.settle("k", None, None)  # type: ignore[arg-type]
    limits.settle("other", None, None)  # type: ignore[arg-type]
    limits.lower("k", 12)
    assert (limits.of("k"), limits.of("other"), limits.size) == (6, 32, 19)
    limits.lower("k", 3)
    limits.lower("k", 1)
    assert limits.of("k") == 1


def test_what_was_measured_beside_others_is_measured_again_ever_more_rarely() -> None:
    now, found, measured = [0.0], [Size(1, is_sure=False)], []

    def measure(pack: Any, trial: str) -> Size:
        measured.append(now[0])
        return found[0]

    limits = Limits("auto", measure, shape_of=lambda key: key[0], clock=lambda: now[0])
    for second in range(0, 800, 10):
        now[0] = float(second)
        limits.settle("a1", None, "t")  # type: ignore[arg-type]
        limits.settle("a2", None, "t")  # type: ignore[arg-type]
    assert measured == [0.0, 120.0, 360.0]
    assert limits.describe() == [1, 1]

    limits.lower("a2", 1)
    now[0], found[0] = 900.0, Size(8)
    limits.settle("a1", None, "t")  # type: ignore[arg-type]
    # Both have one shape, but what was too many for a key stays too many.
    assert (limits.of("a1"), limits.of("a2")) == (8, 1)
    now[0] = 1e6
    limits.settle("a1", None, "t")  # type: ignore[arg-type]
    assert len(measured) == 4
