"""How many trials a pack takes: as many as raise throughput, and fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from fpt_ray.engine.device import (
    free_bytes,
    is_fatal,
    is_out_of_memory,
    peak_bytes,
    release_memory,
    reset_peak,
)
from fpt_ray.engine.ports import Pack
from fpt_ray.engine.quiet import Quiet

LARGEST = {"cpu": 32, "cuda": 128}
"""Trials in a pack at most where the size is measured."""
WORTHWHILE = 1.05
"""A larger pack is worth it where it has this many times the trial-steps a second."""
_DOUBTFUL = 1.25
"""The same where others disturbed the measurement. A pack that is too large keeps results waiting;
one that is too small costs a third of the speed."""
_SHARE_OF_MEMORY = {"cpu": 0.5, "cuda": 0.9}
_MISSES = 2
"""Doublings in a row that do not pay end the search: a single one may be the machine's noise."""
_TRUSTED_S = 0.5
"""A step that takes so long is no noise; nor may many of them be spent on finding out."""
_BUSY_S = 2.0
"""A device whose step takes so long is busy: to rehearse more of it costs more than it can gain."""
_ENOUGH_S = 0.3
"""Rehearsals are repeated for so long: somebody else's burst is about as long."""
_MANY = 20
_DOUBTED_S = 120.0
"""What was measured beside others is measured again after so long, then after twice as long."""


@dataclass(frozen=True, slots=True)
class Size:
    """What was found by measuring.

    Attributes:
        num_trials: that a pack takes.
        is_sure: whether nobody else needed the device at the time.
    """

    num_trials: int
    is_sure: bool = True


Measure = Callable[[Pack, Any], Size]


class Limits:
    """The number of trials that a pack of each key takes.

    Args:
        pack: a number for all keys, or ``auto``.
        measure: finds it for a pack and one of its trials; called where ``pack`` is ``auto``.
        shape_of: keys of which it gives equal things take equal numbers of trials.
        clock: seconds that pass.
    """

    def __init__(
        self,
        pack: Literal["auto"] | int,
        measure: Measure,
        shape_of: Callable[[Any], Hashable] = lambda key: key,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fixed = None if pack == "auto" else pack
        self._measure = measure
        self._shape_of = shape_of
        self._clock = clock
        self._shapes: dict[Hashable, Hashable] = {}
        self._found: dict[Hashable, int] = {}
        self._doubts: dict[Hashable, _Doubt] = {}
        self._lowered: dict[Hashable, int] = {}

    def of(self, key: Hashable) -> int:
        """Tell how many trials a pack of a key takes; as long as it is not known, one."""
        if key not in self._shapes:
            return self.fixed or 1
        found = self._found[self._shapes[key]]
        return min(found, self._lowered.get(key, found))

    def settle(self, key: Hashable, pack: Pack, trial: Any) -> None:
        """Find the limit of a key unless it is known for sure."""
        shape = self._shape_of(key)
        if shape not in self._found or self._is_due(shape):
            self._found[shape] = self.fixed or self._look(shape, pack, trial)
        self._shapes[key] = shape

    def _is_due(self, shape: Hashable) -> bool:
        return shape in self._doubts and self._clock() >= self._doubts[shape].until

    def _look(self, shape: Hashable, pack: Pack, trial: Any) -> int:
        size = self._measure(pack, trial)
        before = self._doubts.pop(shape, None)
        if not size.is_sure:
            wait_s = _DOUBTED_S if before is None else 2 * before.wait_s
            self._doubts[shape] = _Doubt(wait_s, self._clock() + wait_s)
        return size.num_trials

    def lower(self, key: Hashable, num_tried: int) -> None:
        """Halve a limit, for good, after so many trials were too many."""
        self._lowered[key] = max(1, min(self.of(key), num_tried) // 2)

    @property
    def size(self) -> int | None:
        """Trials in a pack, on average over the keys that were met; None before the first."""
        limits = self.describe()
        return sum(limits) // len(limits) if limits else self.fixed

    def describe(self) -> list[int]:
        """List the limits of all keys that were met."""
        return sorted(self.of(key) for key in list(self._shapes))


@dataclass(frozen=True, slots=True)
class _Doubt:
    """How long what was measured is taken as it is, in seconds and by the clock."""

    wait_s: float
    until: float


def measured_by(device: torch.device, cap: int | None = None) -> Measure:
    """Make a function that measures how many trials pay.

    Args:
        device: where packs are trained.
        cap: trials at most; None for what is usual on the device.
    """
    largest = LARGEST[device.type] if cap is None else min(cap, LARGEST[device.type])
    return lambda pack, trial: _grow(pack, trial, device, largest)


def _grow(pack: Pack, trial: Any, device: torch.device, largest: int) -> Size:
    """Double the number of copies while that pays and the next doubling can be expected to fit."""
    if largest == 1:
        return Size(1)
    allowed = _SHARE_OF_MEMORY[device.type] * free_bytes(device)
    rates: dict[int, float] = {}
    tried, misses, quiet = 1, 0, Quiet(device)
    while tried <= largest and misses < _MISSES:
        reset_peak(device)
        before = peak_bytes(device)
        seconds = _rehearse(pack, trial, tried, quiet)
        # With one trial alone it is the trial's own failure, if it is one, that training will meet.
        if seconds is None:
            break
        rate = tried / seconds
        if rate >= WORTHWHILE * max(rates.values(), default=0.0):
            misses = 0
        elif not quiet.gave_up:
            misses += _MISSES if seconds >= _TRUSTED_S else 1
        rates[tried] = rate
        if seconds >= _BUSY_S or 2 * (peak_bytes(device) - before) > allowed:
            break
        tried *= 2
    release_memory(device)
    return Size(far_end(rates) if quiet.gave_up else knee(rates), is_sure=not quiet.gave_up)


def knee(rates: Mapping[int, float]) -> int:
    """Find the smallest pack that is nearly as fast as the fastest.

    Args:
        rates: trial-steps a second by number of trials; may be empty.
    """
    return min(_fast(rates, WORTHWHILE), default=1)


def far_end(rates: Mapping[int, float]) -> int:
    """Find the largest pack that may be as fast as the fastest, as far as noisy rates can tell.

    Args:
        rates: as ``knee`` takes them.
    """
    return max(_fast(rates, _DOUBTFUL), default=1)


def _fast(rates: Mapping[int, float], factor: float) -> list[int]:
    """List the packs that are no slower than the fastest by more than a factor."""
    fastest = max(rates.values(), default=0.0)
    return [size for size, rate in rates.items() if rate * factor >= fastest]


def _rehearse(pack: Pack, trial: Any, num_copies: int, quiet: Quiet) -> float | None:
    """Return the seconds of a step, the first one aside, which prepares; None if it fails."""

    def rehearse() -> float:
        return quiet.measure(lambda: pack.rehearse(trial, num_copies))

    try:
        best = rehearse()
        # A rehearsal makes two steps.
        for _ in range(min(_MANY, int(_ENOUGH_S / max(2 * best, 1e-9)))):
            best = min(best, rehearse())
    except Exception as error:
        if is_fatal(error):
            raise
        failed_for_memory = is_out_of_memory(error)
    else:
        return max(best, 1e-9)
    if failed_for_memory:
        release_memory(quiet.device)
    return None
