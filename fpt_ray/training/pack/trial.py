"""One trial that trains in packs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fpt_ray.models import SequenceModel, combine_digests
from fpt_ray.models.cuts import Cut
from fpt_ray.models.weights import digest_tensor
from fpt_ray.tasks import Task
from fpt_ray.training.course import MOMENTS, Course, Plan, diverged, judge
from fpt_ray.training.divergence import Divergence
from fpt_ray.training.features import Stores
from fpt_ray.training.pack.key import PackKey
from fpt_ray.training.pack.numbers import Layout, Numbers
from fpt_ray.training.pack.shelf import FrozenWeights
from fpt_ray.training.results import Evaluation, TestResult
from fpt_ray.training.steps import Recipe

_ZERO = torch.zeros(())


class TrialFault(Exception):  # noqa: N818 - it is told apart from errors, which it carries
    """One trial of a pack cannot go on, whatever the others do; none has changed.

    Attributes:
        trial: the one.
        error: why.
    """

    def __init__(self, trial: PackedTrial, error: Exception) -> None:
        super().__init__(str(error))
        self.trial = trial
        self.error = error


@dataclass(frozen=True, slots=True)
class Work:
    """What a trial trains on, and how.

    Attributes:
        task: the task, with its data.
        recipe: how parameters are updated.
        plan: seed, length and metric.
    """

    task: Task
    recipe: Recipe
    plan: Plan


@dataclass(frozen=True, slots=True)
class Parts:
    """What a trial's model is made of.

    Attributes:
        device: where it computes.
        shapes: of all parameters, in the model's order.
        trained: names of those that get updates.
        weights: of its body, shared.
        frozen: fingerprint of its frozen parameters as they were loaded.
        order: (seq_length,) order of shuffled tokens; None where they are read as they are.
        cut: the highest one below everything trained, of a model of this architecture.
        stores: activations that are kept.
        blueprint: makes a materialised model of its body, whose ends have no numbers yet.
    """

    device: torch.device
    shapes: Mapping[str, torch.Size]
    trained: frozenset[str]
    weights: FrozenWeights
    frozen: str
    order: Tensor | None
    cut: Cut | None
    stores: Stores
    blueprint: Callable[[], SequenceModel]

    @property
    def own(self) -> list[str]:
        """Name what no other trial shares: what is trained, and the ends, which seeds draw."""
        return [name for name in self.shapes if name in self.trained or is_end(name)]

    def layout(self) -> Layout:
        """Lay out what the trial has of its own."""
        return Layout({name: self.shapes[name] for name in self.own}, self.trained)


class PackedTrial:
    """One trial that trains in packs: the counterpart of ``Trainer``, with the same checkpoints.

    It holds its own numbers; while it is in a pack they are rows of the pack's buffers. ``Pack``
    trains, evaluates and tests it.

    Args:
        key: trials with equal keys may be in one pack.
        work: what it trains on.
        parts: what its model is made of.
        numbers: its parameters as they were drawn or loaded, in ``parts.layout()``.
    """

    def __init__(self, key: PackKey, work: Work, parts: Parts, numbers: Numbers) -> None:
        self.key = key
        self.work = work
        self.parts = parts
        self.numbers = numbers
        self.updates = 0
        self.divergence: Divergence | None = None
        self._course = Course(work.plan, parts.frozen)
        self._losses: list[float] = []
        self._largest_pack = 1

    @property
    def seed(self) -> int:
        """Give the seed that draws its ends, batches and dropout."""
        return self.work.plan.seed

    @property
    def step(self) -> int:
        """Count the updates so far; where training diverged, including the one that went wrong."""
        return self._course.step

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train: all steps are made, or training diverged."""
        return self._course.finished or self.divergence is not None

    @property
    def improved(self) -> bool:
        """Whether the last evaluation was the best so far."""
        return self._course.improved

    @property
    def last_evaluation(self) -> Evaluation | None:
        """Give the last evaluation, if there was one."""
        return self._course.last_evaluation

    @property
    def num_trained_parameters(self) -> int:
        """Count the numbers that get updates."""
        return sum(self.parts.shapes[name].numel() for name in self.parts.trained)

    def values(self) -> dict[str, Tensor]:
        """Give the trained parameters by name; they go on changing with training."""
        numbers, trained = self.numbers, self.parts.trained
        return {name: numbers.value(name) for name in self.parts.shapes if name in trained}

    def remaining(self, num_steps: int) -> int:
        """Tell how many of ``num_steps`` can be made before the trial ends."""
        return self._course.remaining(num_steps)

    def require_open(self) -> None:
        """Refuse to train on after a divergence.

        Raises:
            ValueError: training has diverged before.
        """
        self._course.require_open()
        if self.divergence is not None:
            raise ValueError(f"training diverged at step {self.step}: it cannot go on")

    def state(self) -> bytes:
        """Save all that training needs to go on exactly, as ``Trainer.state``.

        Between two evaluations the losses since the last one are left out.
        """
        return self._course.state(self.values(), self._moments())

    def load_state(self, data: bytes) -> None:
        """Go back to a saved state, as ``Trainer.load_state``.

        Raises:
            CheckpointError: it is damaged or belongs to another trial.
        """
        saved = self._course.load_state(data, self.values())
        self.updates = 0
        for name, value in saved.parameters.items():
            self.numbers.value(name).copy_(value)
            for moment, own in self.numbers.moments(name).items():
                own.copy_(saved.moments.get(f"{moment}/{name}", _ZERO))
            self.updates = int(saved.moments.get(f"step/{name}", _ZERO))
        self._begin_interval()

    def best(self) -> bytes:
        """Save the trained parameters that had the best evaluation, as ``Trainer.best``.

        Raises:
            ValueError: there was no evaluation, and no best parameters were loaded.
        """
        return self._course.best()

    def load_best(self, data: bytes) -> None:
        """Load the parameters that are tested.

        Raises:
            CheckpointError: they are damaged or belong to another trial.
        """
        self._course.load_best(data, self.values())

    def require_best(self) -> Mapping[str, Tensor]:
        """Give the trained parameters that had the best evaluation.

        Raises:
            ValueError: there was no evaluation, and no best parameters were loaded.
        """
        return self._course.require_best()

    def verify_frozen(self) -> None:
        """Prove that the frozen parameters are those that were loaded.

        Raises:
            CheckpointError: at least one of them changed.
        """
        frozen = (name for name in self.parts.shapes if name not in self.parts.trained)
        self._course.check_frozen(combine_digests({n: self._digest(n) for n in frozen}))

    def note_steps(self, losses: list[float], divergence: Divergence | None, pack: int) -> None:
        """Remember steps that a pack has made.

        Args:
            losses: in nats, of each step.
            divergence: where one of the steps went wrong.
            pack: trials that made them together.
        """
        if losses:
            self._largest_pack = max(self._largest_pack, pack)
        self._losses += losses
        self.divergence = divergence
        self._course.step += len(losses) if divergence is None else divergence.index + 1

    def note_result(self, result: TestResult | None) -> Evaluation:
        """Remember the evaluation that ends an interval.

        Args:
            result: of the validation split; None where the trial has diverged.
        """
        if self.divergence is not None:
            evaluation = diverged(self.step, self.divergence.reason, self._largest_pack)
        else:
            assert result is not None
            evaluation = judge(self.step, self._mean_loss(), result, self._largest_pack)
        self._begin_interval()
        return self._course.note(evaluation, self.values())

    def spend(self, train_s: float = 0.0, evaluate_s: float = 0.0) -> None:
        """Add its share of the seconds that a pack has spent in training and evaluating."""
        self._course.spend(train_s, evaluate_s)

    def leave(self) -> None:
        """Take its numbers out of a pack's buffers."""
        own = Numbers.zeros(self.parts.layout(), self.parts.device)
        own.take(self.numbers, {})
        self.numbers = own

    def _mean_loss(self) -> float | None:
        return math.fsum(self._losses) / len(self._losses) if self._losses else None

    def _begin_interval(self) -> None:
        self._losses = []
        self._largest_pack = 1
        self.divergence = None

    def _moments(self) -> dict[str, Tensor]:
        """Give Adam's state as torch's has it, which counts the updates of each parameter."""
        if not self.updates:
            return {}
        moments = {}
        for name in self.values():
            # Each parameter has a count of its own, since safetensors refuses shared memory.
            found = {"step": torch.tensor(float(self.updates)), **self.numbers.moments(name)}
            moments.update({f"{moment}/{name}": found[moment] for moment in MOMENTS})
        return moments

    def _digest(self, name: str) -> str:
        if name in self.numbers.layout:
            return digest_tensor(self.numbers.value(name))
        return self.parts.weights.digest(name)


def is_end(name: str) -> bool:
    """Tell whether a parameter belongs to an input or output layer."""
    return not name.startswith("backbone.")
