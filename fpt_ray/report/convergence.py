"""How many steps an arm's finalists needed: the paper's measure of compute efficiency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fpt_ray.records import TrialRecord

WITHIN = 0.01
"""How far below a trial's best validation accuracy counts as converged: one percentage point."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Convergence:
    """Steps to convergence of an arm's finished finalists.

    Attributes:
        steps: seed to the step of the first evaluation within one point of the trial's best.
        mean: over the seeds.
        low: the fewest.
        high: the most.
        num_still_rising: finalists whose best evaluation was their last one.
    """

    steps: Mapping[int, int]
    mean: float
    low: int
    high: int
    num_still_rising: int


def measure_convergence(finalists: Sequence[TrialRecord]) -> Convergence | None:
    """Measure the finished finalists of an arm; None where there is none.

    Args:
        finalists: of the arm's winner.

    Source: Lu et al. 2021 (arXiv:2103.05247), table 6, counts gradient steps until training
    converges.
    """
    finished = [trial for trial in finalists if trial.status == "finished"]
    steps = {trial.seed: step for trial in finished if (step := _converged_at(trial)) is not None}
    if not steps:
        return None
    return Convergence(
        steps=steps,
        mean=fmean(steps.values()),
        low=min(steps.values()),
        high=max(steps.values()),
        num_still_rising=sum(_is_rising(trial) for trial in finished if trial.seed in steps),
    )


def _accuracies(trial: TrialRecord) -> list[tuple[int, float]]:
    measured = ((each.step, each.validation_accuracy) for each in trial.evaluations)
    return [(step, accuracy) for step, accuracy in measured if accuracy is not None]


def _converged_at(trial: TrialRecord) -> int | None:
    points = _accuracies(trial)
    if not points:
        return None
    enough = max(accuracy for _, accuracy in points) - WITHIN - _ROUNDING
    return next(step for step, accuracy in points if accuracy >= enough)


def _is_rising(trial: TrialRecord) -> bool:
    """Tell whether no evaluation before the last one was as good."""
    *before, (_, last) = _accuracies(trial)
    return all(accuracy < last for _, accuracy in before)
