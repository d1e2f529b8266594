"""How far two traces of one trial are apart, in measures that rounding alone keeps small."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fpt_ray.verify.traces import Trace

MEASURES = {"loss": 1, "first_gradients": 1, "last_gradients": 100, "parameters": 100}
"""What is compared, and its limit as a multiple of the tolerance.

Adam divides each gradient by its own size, so that a number whose gradient is nothing but rounding
(the bias of an attention's keys has none other) moves as far as any other. Nothing of that can be
seen in the first gradients, and little in the losses.
"""


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """A relative difference.

    Attributes:
        value: the difference; infinite where one of the two diverged, or became nan.
        where: the step or the parameter that is furthest apart.
    """

    value: float
    where: str

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON data, in which infinity is null."""
        return {"value": self.value if math.isfinite(self.value) else None, "where": self.where}


@dataclass(frozen=True, slots=True)
class Differences:
    """How far two traces of one trial are apart.

    Attributes:
        loss: largest difference of a step's training loss, or of the validation loss after it,
            relative to that loss.
        first_gradients: norm of the difference of all gradients, before clipping, at the first
            step, relative to the norm of the gradients.
        last_gradients: the same at the last step.
        parameters: norm of the difference of all trained parameters after the last step, relative
            to the norm of how far they were moved.
    """

    loss: Difference
    first_gradients: Difference
    last_gradients: Difference
    parameters: Difference

    def of(self, measure: str) -> Difference:
        """Give one by its name, which is one of ``MEASURES``."""
        found: Difference = getattr(self, measure)
        return found

    def beyond(self, tolerance: float) -> list[str]:
        """Name those that are larger than their limits."""
        return [name for name in MEASURES if self.of(name).value > limit(name, tolerance)]

    def or_larger(self, other: Differences) -> Differences:
        """Take the larger of two for every measure."""
        return Differences(*(max(self.of(name), other.of(name)) for name in MEASURES))

    def to_json(self) -> dict[str, Any]:
        """Write them as JSON data."""
        return {name: self.of(name).to_json() for name in MEASURES}


def limit(measure: str, tolerance: float) -> float:
    """Say how large a difference may be."""
    return MEASURES[measure] * tolerance


def compare(packed: Trace, alone: Trace) -> Differences:
    """Compare the traces of one trial.

    Args:
        packed: as it went in a pack, or in any other way.
        alone: as it should be.
    """
    endings = _ending(packed), _ending(alone)
    if len(set(endings)) > 1:
        where = "packed it {}, alone it {}".format(*endings)
        return Differences(*[Difference(math.inf, where)] * len(MEASURES))
    last = max(alone.slopes)
    # What a trial was left with when it diverged is of no account.
    moved = Difference(0.0, endings[0])
    if alone.diverged_at is None:
        moved = _compare_tensors(packed.end, alone.end, alone.start)
    return Differences(
        _compare_losses(packed, alone),
        _compare_tensors(packed.slopes[0].gradients, alone.slopes[0].gradients),
        _compare_tensors(packed.slopes[last].gradients, alone.slopes[last].gradients),
        moved,
    )


def _compare_losses(packed: Trace, alone: Trace) -> Difference:
    found = [Difference(0.0, "")]
    for ours, theirs in zip(packed.evaluations, alone.evaluations, strict=True):
        pairs = {
            f"step {theirs.step}": (ours.train_loss, theirs.train_loss),
            f"validation after step {theirs.step}": (ours.validation_loss, theirs.validation_loss),
        }
        found += [Difference(_relative(*pair), where) for where, pair in pairs.items()]
    return max(found)


def _relative(found: float | None, wanted: float | None) -> float:
    """Compare two losses; those of a step that diverged are missing in both."""
    if found is None or wanted is None:
        return 0.0 if found is wanted else math.inf
    if found == wanted:
        return 0.0
    return abs(found - wanted) / abs(wanted) if wanted else math.inf


def _compare_tensors(
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    origin: Mapping[str, Tensor] | None = None,
) -> Difference:
    """Compare tensors of equal names, relative to the norm of how far they are from an origin."""
    apart = {name: _norm(found[name] - wanted[name]) for name in wanted}
    scale = math.hypot(
        *(_norm(value - origin[name] if origin else value) for name, value in wanted.items())
    )
    whole = math.hypot(*apart.values())
    worst = max(apart, key=lambda name: _or_infinite(apart[name]))
    if whole == 0:
        return Difference(0.0, worst)
    return Difference(_or_infinite(whole / scale) if scale else math.inf, worst)


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))


def _or_infinite(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _ending(trace: Trace) -> str:
    at = trace.diverged_at
    return "did not diverge" if at is None else f"diverged at step {at}"
