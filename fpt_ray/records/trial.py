"""A trial as its files tell it: configuration, evaluations and status."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fpt_ray.errors import RunDirectoryError

Stage = Literal["tune", "final"]
Status = Literal["running", "finished", "stopped", "diverged", "failed", "superseded"]
Decision = Literal["continue", "stop", "finish", "diverge"]
Direction = Literal["max", "min"]


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """One line of a trial's log.

    Losses and accuracies are None where the trial had diverged; accuracies are shares in [0, 1].
    Times are seconds that this trial has spent so far, over all its resumes: training only
    (``train_s``), and with evaluation and writing (``wall_s``); a trial that trained in a pack has
    its share of the pack's. ``sequence`` numbers the evaluations of the whole sweep. ``pack`` is
    the largest number of trials that this one trained with since its last evaluation, itself
    included.
    """

    step: int
    sequence: int
    decision: Decision
    train_loss: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    train_s: float
    wall_s: float
    trained_parameters: int | None = None
    reason: str | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    test_examples: int | None = None
    test_skipped: int | None = None
    pack: int | None = None

    def to_line(self) -> str:
        """Write the record as one line of JSON, without fields that are unset."""
        required = {f.name for f in dataclasses.fields(self) if f.default is dataclasses.MISSING}
        values = dataclasses.asdict(self)
        kept = {k: v for k, v in values.items() if v is not None or k in required}
        return json.dumps(kept, allow_nan=False) + "\n"

    def value(self, metric: str, direction: Direction) -> float:
        """Read a metric as a number that is better the larger it is; a missing one is the worst."""
        value: float | None = getattr(self, metric)
        if value is None or math.isnan(value):
            return -math.inf
        return value if direction == "max" else -value


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial of a sweep: what it was asked to do and how far it got."""

    trial_id: str
    stage: Stage
    arm: str
    labels: Mapping[str, str]
    slot: int
    seed: int
    seed_index: int
    values: Mapping[str, Any]
    settings: Mapping[str, Any]
    evaluations: tuple[EvaluationRecord, ...] = ()
    status: Status = "running"
    reason: str | None = None
    best: EvaluationRecord | None = field(default=None)

    @property
    def steps(self) -> int:
        """The optimizer steps that were trained and logged."""
        return self.evaluations[-1].step if self.evaluations else 0

    @property
    def train_s(self) -> float:
        """Seconds spent on training steps."""
        return self.evaluations[-1].train_s if self.evaluations else 0.0

    @property
    def trained_parameters(self) -> int | None:
        """How many parameters were trained; None before the first evaluation."""
        return self.evaluations[-1].trained_parameters if self.evaluations else None

    @property
    def pack(self) -> int | None:
        """The largest number of trials that it trained with, itself included; None if untold."""
        return max((e.pack for e in self.evaluations if e.pack is not None), default=None)

    @property
    def test(self) -> EvaluationRecord | None:
        """The latest evaluation with which the test split was read, if it was."""
        return next((e for e in reversed(self.evaluations) if e.test_accuracy is not None), None)

    @property
    def test_accuracy(self) -> float | None:
        """Accuracy on the test split, a share in [0, 1]; finalists only."""
        return self.test.test_accuracy if self.test else None

    @property
    def test_loss(self) -> float | None:
        """Loss on the test split; finalists only."""
        return self.test.test_loss if self.test else None

    @property
    def test_examples(self) -> int | None:
        """How many test examples were read for ``test_accuracy``."""
        return self.test.test_examples if self.test else None

    @property
    def test_skipped(self) -> int:
        """How many more could not be read and count as wrong; 0 where the log does not tell."""
        return (self.test.test_skipped or 0) if self.test else 0

    @property
    def tests_read(self) -> int:
        """How often this trial has read the test split."""
        return sum(e.test_accuracy is not None for e in self.evaluations)


def parse_log(data: bytes | None, where: str) -> tuple[EvaluationRecord, ...]:
    """Read a trial's log.

    Raises:
        RunDirectoryError: a line is not a record of an evaluation; the message names it.
    """
    records = []
    for number, line in enumerate((data or b"").decode(errors="replace").splitlines(), start=1):
        try:
            records.append(EvaluationRecord(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise RunDirectoryError(
                f"not the record of an evaluation: {error}",
                where=f"{where}:{number}",
                fix="restore the file from a backup, or delete its folder to train that trial anew",
            ) from error
    return tuple(records)


def status_of(
    evaluations: Sequence[EvaluationRecord], max_steps: int, failure: Mapping[str, Any] | None
) -> tuple[Status, str | None]:
    """Tell how a trial ended, and why, from its log; ``running`` if it has steps left to train."""
    last = evaluations[-1] if evaluations else None
    if last is not None and last.decision == "diverge":
        return "diverged", last.reason
    if last is not None and last.decision == "stop":
        return "stopped", last.reason
    if last is not None and last.step >= max_steps:
        return "finished", None
    if failure is not None:
        return "failed", failure["reason"]
    return "running", None


def best_of(
    evaluations: Sequence[EvaluationRecord], metric: str, direction: Direction
) -> EvaluationRecord | None:
    """Find the best evaluation; ties go to the smaller validation loss, then the earlier step."""
    measured = [e for e in evaluations if e.value(metric, direction) > -math.inf]
    if not measured:
        return None
    return max(
        measured,
        key=lambda e: (e.value(metric, direction), e.value("validation_loss", "min"), -e.step),
    )
