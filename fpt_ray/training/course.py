"""How far a trial has come: its steps, times, evaluations and checkpoints, however it trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fpt_ray.errors import CheckpointError
from fpt_ray.training.blobs import Blob, check_tensors, pack, unpack
from fpt_ray.training.results import Best, Evaluation, Metric, TestResult

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What Adam keeps of each parameter, as torch names it."""

_PARAMETER = "parameter/"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a trial is for.

    Attributes:
        seed: draws batches and dropout.
        max_steps: updates of a trial that is not stopped early.
        metric: by which its best parameters are chosen.
    """

    seed: int
    max_steps: int
    metric: Metric = "validation_accuracy"


@dataclasses.dataclass(frozen=True, slots=True)
class Saved:
    """What a state held.

    Attributes:
        parameters: the trained parameters by name.
        moments: Adam's state, as ``MOMENT/PARAMETER``; empty before the first update.
    """

    parameters: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]


class Course:
    """The bookkeeping of one trial; its parameters are somebody else's.

    Args:
        plan: seed, length and metric of the trial.
        frozen: fingerprint of its frozen parameters as they were loaded.
    """

    def __init__(self, plan: Plan, frozen: str) -> None:
        self.plan = plan
        self.step = 0
        self.last_evaluation: Evaluation | None = None
        self.improved = False
        self._frozen = frozen
        self._best: Best | None = None
        self._best_parameters: dict[str, Tensor] | None = None
        self._train_s = 0.0
        self._wall_s = 0.0

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train: all steps are made, or training diverged."""
        return self._diverged or self.step >= self.plan.max_steps

    def require_open(self) -> None:
        """Refuse to train on after a divergence.

        Raises:
            ValueError: training has diverged before.
        """
        if self._diverged:
            raise ValueError(f"training diverged at step {self.step}: it cannot go on")

    def remaining(self, num_steps: int) -> int:
        """Tell how many of ``num_steps`` can be made before the trial ends."""
        return max(0, min(num_steps, self.plan.max_steps - self.step))

    def spend(self, train_s: float = 0.0, evaluate_s: float = 0.0) -> None:
        """Add seconds spent in training steps, and in evaluations."""
        self._train_s += train_s
        self._wall_s += train_s + evaluate_s

    def note(self, evaluation: Evaluation, parameters: Mapping[str, Tensor]) -> Evaluation:
        """Remember an evaluation, and copy the trained parameters if they are the best so far.

        Args:
            evaluation: its times aside, which are filled in.
            parameters: the trained ones as they are now.

        Returns:
            The evaluation with its times.
        """
        evaluation = dataclasses.replace(evaluation, train_s=self._train_s, wall_s=self._wall_s)
        self.last_evaluation = evaluation
        accuracy, loss = evaluation.validation_accuracy, evaluation.validation_loss
        if accuracy is None or loss is None:
            self.improved = False
            return evaluation
        candidate = Best(evaluation.step, accuracy, loss)
        self.improved = candidate.beats(self._best, self.plan.metric)
        if self.improved:
            self._best = candidate
            self._best_parameters = _copied(parameters)
        return evaluation

    def require_best(self) -> Mapping[str, Tensor]:
        """Give the parameters that had the best evaluation.

        Raises:
            ValueError: there was no evaluation, and no best parameters were loaded.
        """
        if self._best_parameters is None:
            raise ValueError("there are no best parameters: evaluate, or load them")
        return self._best_parameters

    def state(self, parameters: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> bytes:
        """Save all that training needs to go on exactly: one safetensors file.

        Args:
            parameters: the trained ones.
            moments: Adam's state of all of them, as ``MOMENT/PARAMETER``, or nothing.
        """
        last = self.last_evaluation
        document = {
            "kind": "state",
            "step": self.step,
            "train_s": self._train_s,
            "wall_s": self._wall_s,
            # Between two evaluations the parameters are no longer those that were the best.
            "improved": self.improved and last is not None and last.step == self.step,
            "best": self._best and dataclasses.asdict(self._best),
            "last_evaluation": last and dataclasses.asdict(last),
            "frozen": self._frozen,
        }
        return pack(_prefixed(parameters) | dict(moments), document)

    def load_state(self, data: bytes, parameters: Mapping[str, Tensor]) -> Saved:
        """Go back to a saved state, as far as the bookkeeping goes.

        Args:
            data: as ``state`` gave it.
            parameters: the trained ones, of whose names and shapes the saved ones must be.

        Raises:
            CheckpointError: it is damaged or belongs to another trial; nothing has changed.
        """
        blob = self._open(data, "state")
        expected = _prefixed(parameters)
        has_moments = len(blob.tensors) > len(expected)
        expected |= _expected_moments(parameters) if has_moments else {}
        check_tensors(blob.tensors, expected)
        found = _unprefixed(blob.tensors)
        self._restore(blob.document, found, parameters)
        moments = {n: v for n, v in blob.tensors.items() if not n.startswith(_PARAMETER)}
        return Saved(found, moments)

    def best(self) -> bytes:
        """Save the trained parameters that had the best evaluation: one safetensors file.

        Raises:
            ValueError: there was no evaluation, and no best parameters were loaded.
        """
        document = {"kind": "best", "frozen": self._frozen}
        return pack(_prefixed(self.require_best()), document)

    def load_best(self, data: bytes, parameters: Mapping[str, Tensor]) -> None:
        """Load the parameters that are tested.

        Args:
            data: as ``best`` gave it.
            parameters: the trained ones, of whose names, shapes and device the best shall be.

        Raises:
            CheckpointError: they are damaged or belong to another trial.
        """
        blob = self._open(data, "best")
        check_tensors(blob.tensors, _prefixed(parameters))
        self._best_parameters = _placed(_unprefixed(blob.tensors), parameters)

    def check_frozen(self, found: str) -> None:
        """Compare the frozen parameters as they are now with those that were loaded.

        Args:
            found: their fingerprint.

        Raises:
            CheckpointError: at least one of them changed.
        """
        if found != self._frozen:
            raise CheckpointError(
                "frozen parameters changed while the trial was training",
                fix="report this: the trial's results are not to be trusted",
            )

    @property
    def _diverged(self) -> bool:
        return self.last_evaluation is not None and self.last_evaluation.diverged

    def _open(self, data: bytes, kind: str) -> Blob:
        blob = unpack(data, kind)
        if blob.document["frozen"] != self._frozen:
            raise CheckpointError(
                "the checkpoint was trained on other frozen weights",
                fix="restore the backbone that it was trained with, or delete the trial's folder",
            )
        return blob

    def _restore(
        self,
        document: Mapping[str, Any],
        found: Mapping[str, Tensor],
        parameters: Mapping[str, Tensor],
    ) -> None:
        best, last = document["best"], document["last_evaluation"]
        self.step = document["step"]
        self.improved = document["improved"]
        self.last_evaluation = Evaluation(**last) if last else None
        self._train_s, self._wall_s = document["train_s"], document["wall_s"]
        self._best = Best(**best) if best else None
        # A state whose last evaluation was the best holds the best parameters itself.
        self._best_parameters = _placed(found, parameters) if self.improved else None


def judge(step: int, train_loss: float | None, result: TestResult, pack: int = 1) -> Evaluation:
    """Make an evaluation of what was scored, its times aside; a loss that is not finite diverges.

    Args:
        step: updates so far.
        train_loss: mean loss in nats over the steps since the last evaluation.
        result: of the validation split.
        pack: the largest number of trials that it trained with since then.
    """
    if not result.loss < float("inf"):
        return diverged(step, f"the validation loss became {result.loss}", pack)
    return Evaluation(step, train_loss, result.loss, result.accuracy, 0.0, 0.0, pack=pack)


def diverged(step: int, reason: str, pack: int = 1) -> Evaluation:
    """Make the evaluation of a trial that diverged, its times aside."""
    return Evaluation(step, None, None, None, 0.0, 0.0, diverged=True, reason=reason, pack=pack)


def _expected_moments(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make tensors of the shapes that Adam's state has after the first update."""
    scalar = torch.zeros(())
    return {
        f"{moment}/{name}": scalar if moment == "step" else parameter
        for name, parameter in parameters.items()
        for moment in MOMENTS
    }


def _copied(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in parameters.items()}


def _placed(found: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy what was found to where each parameter is."""
    return {name: found[name].to(like.device, copy=True) for name, like in parameters.items()}


def _prefixed(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_PARAMETER + name: value for name, value in parameters.items()}


def _unprefixed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefixed = ((name, value) for name, value in tensors.items() if name.startswith(_PARAMETER))
    return {name.removeprefix(_PARAMETER): value for name, value in prefixed}
