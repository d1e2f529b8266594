"""What training reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Metric = Literal["validation_accuracy", "validation_loss"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A trial after some steps.

    Attributes:
        step: optimizer updates so far; where training diverged, the update that went wrong.
        train_loss: mean loss in nats over the steps since the last evaluation; None if diverged,
            or if there were none.
        validation_loss: mean cross entropy in nats over the validation split; None if diverged.
        validation_accuracy: fraction of right decisions there, in [0, 1]; None if diverged.
        train_s: seconds spent in training steps, over all resumes.
        wall_s: the same with evaluations.
        diverged: whether training ended here.
        reason: why it diverged.
        pack: the largest number of trials that it trained with, itself included, since the last
            evaluation; 1 where it trained alone.
    """

    step: int
    train_loss: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    train_s: float
    wall_s: float
    diverged: bool = False
    reason: str | None = None
    pack: int = 1


@dataclass(frozen=True, slots=True)
class TestResult:
    """A model on a whole split.

    Attributes:
        loss: mean cross entropy in nats, over the sequences read.
        accuracy: fraction of right decisions, in [0, 1]; those of skipped sequences are wrong.
        num_examples: sequences read.
        num_decisions: classifications asked for, those of skipped sequences included.
        num_skipped: sequences that could not be read and count as answered wrongly.
    """

    loss: float
    accuracy: float
    num_examples: int
    num_decisions: int
    num_skipped: int = 0

    # The name begins like a test's, and pytest would try to collect it.
    __test__ = False


@dataclass(frozen=True, slots=True)
class Slope:
    """What one step's batch says about a trial.

    Attributes:
        loss: mean cross entropy in nats.
        gradients: of the loss, by the name of each trained parameter, before clipping.
    """

    loss: float
    gradients: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Best:
    """The best evaluation so far: by the metric, then by validation loss, then the earlier."""

    step: int
    validation_accuracy: float
    validation_loss: float

    def beats(self, other: Best | None, metric: Metric) -> bool:
        """Tell whether this evaluation is better than an earlier one."""
        return other is None or self._key(metric) > other._key(metric)

    def _key(self, metric: Metric) -> tuple[float, float]:
        if metric == "validation_loss":
            return -self.validation_loss, self.validation_accuracy
        return self.validation_accuracy, -self.validation_loss
