"""One trial: train, evaluate, save, resume and test."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from fpt_ray.errors import CheckpointError
from fpt_ray.models import SequenceModel, frozen_fingerprint
from fpt_ray.tasks import Task
from fpt_ray.training.blobs import check_tensors, pack, unpack
from fpt_ray.training.divergence import Watch
from fpt_ray.training.features import Stores, plan_stores
from fpt_ray.training.feed import Feed
from fpt_ray.training.results import Best, Evaluation, Metric, TestResult
from fpt_ray.training.scoring import score
from fpt_ray.training.steps import Recipe, Stepper

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


class Trainer:
    """Train one model on one task, in intervals that end with an evaluation.

    Equal arguments give equal parameters after equal steps, however often training is
    interrupted: to the bit on a CPU with the same number of threads, and on a GPU as far as its
    kernels repeat themselves.

    Args:
        model: materialised on ``device``.
        task: the task that it was built for.
        recipe: how parameters are updated.
        plan: seed, length and metric of the trial.
        frozen: fingerprint of the frozen parameters as they were loaded.
        device: where to compute.
    """

    def __init__(
        self,
        model: SequenceModel,
        task: Task,
        recipe: Recipe,
        plan: Plan,
        frozen: str,
        device: torch.device,
    ) -> None:
        self.step = 0
        self.last_evaluation: Evaluation | None = None
        self.improved = False
        self._model = model
        self._task = task
        self._plan = plan
        self._frozen = frozen
        self._device = device
        self._bf16 = recipe.precision == "bf16"
        self._stores = Stores()
        if recipe.cache_features and not self._bf16:
            self._stores = plan_stores(model, task, plan.max_steps * recipe.batch_size, device)
        feed = Feed(task, plan.seed, recipe.batch_size, plan.max_steps, device)
        self._stepper = Stepper(model, feed, recipe, plan.seed, device, self._stores.train)
        self._best: Best | None = None
        self._best_parameters: dict[str, Tensor] | None = None
        self._train_s = 0.0
        self._wall_s = 0.0

    @property
    def num_trained_parameters(self) -> int:
        """Count the numbers that get updates."""
        return sum(parameter.numel() for parameter in self._stepper.trained.values())

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train: all steps are made, or training diverged."""
        diverged = self.last_evaluation is not None and self.last_evaluation.diverged
        return diverged or self.step >= self._plan.max_steps

    def advance(self, num_steps: int) -> Evaluation:
        """Train, then evaluate the whole validation split.

        Args:
            num_steps: updates to make; fewer are made where ``max_steps`` ends before.

        Raises:
            ValueError: training has diverged before.
        """
        if self.last_evaluation is not None and self.last_evaluation.diverged:
            raise ValueError(f"training diverged at step {self.step}: it cannot go on")
        started = perf_counter()
        num_steps = max(0, min(num_steps, self._plan.max_steps - self.step))
        watch = self._stepper.run(self.step, num_steps)
        train_loss = watch.finish()
        self._train_s += perf_counter() - started
        evaluation = self._evaluate(watch, num_steps, train_loss)
        self._wall_s += perf_counter() - started
        evaluation = dataclasses.replace(evaluation, train_s=self._train_s, wall_s=self._wall_s)
        self._note(evaluation)
        return evaluation

    def test(self) -> TestResult:
        """Evaluate the best parameters on the test split.

        Raises:
            ValueError: there was no evaluation, and no best parameters were loaded.
        """
        best = self._require_best()
        current = self._copy_trained()
        self._assign(best)
        try:
            return score(self._model, self._task, "test", self._device, self._bf16)
        finally:
            self._assign(current)

    def state(self) -> bytes:
        """Save all that training needs to go on exactly: one safetensors file."""
        document = {
            "kind": "state",
            "step": self.step,
            "train_s": self._train_s,
            "wall_s": self._wall_s,
            "improved": self.improved,
            "best": self._best and dataclasses.asdict(self._best),
            "last_evaluation": self.last_evaluation and dataclasses.asdict(self.last_evaluation),
            "frozen": self._frozen,
        }
        return pack(_prefixed(self._stepper.trained) | self._stepper.moments(), document)

    def load_state(self, data: bytes) -> None:
        """Go back to a saved state.

        It holds the best parameters only if its last evaluation was the best; otherwise they are
        loaded by ``load_best``.

        Raises:
            CheckpointError: it is damaged or belongs to another trial.
        """
        blob = unpack(data, "state")
        self._check_frozen(blob.document["frozen"])
        expected = _prefixed(self._stepper.trained)
        has_moments = len(blob.tensors) > len(expected)
        expected |= self._stepper.expected_moments() if has_moments else {}
        check_tensors(blob.tensors, expected)
        self._assign(_unprefixed(blob.tensors))
        moments = {n: v for n, v in blob.tensors.items() if not n.startswith(_PARAMETER)}
        self._stepper.load_moments(moments)
        self._restore(blob.document)

    def best(self) -> bytes:
        """Save the trained parameters that had the best evaluation: one safetensors file.

        Raises:
            ValueError: there was no evaluation, and no best parameters were loaded.
        """
        document = {"kind": "best", "frozen": self._frozen}
        return pack(_prefixed(self._require_best()), document)

    def load_best(self, data: bytes) -> None:
        """Load the parameters that ``test`` shall use.

        Raises:
            CheckpointError: they are damaged or belong to another trial.
        """
        blob = unpack(data, "best")
        self._check_frozen(blob.document["frozen"])
        check_tensors(blob.tensors, _prefixed(self._stepper.trained))
        parameters = _unprefixed(blob.tensors)
        self._best_parameters = {n: value.to(self._device) for n, value in parameters.items()}

    def verify_frozen(self) -> None:
        """Prove that the frozen parameters are those that were loaded.

        Raises:
            CheckpointError: at least one of them changed.
        """
        if frozen_fingerprint(self._model) != self._frozen:
            raise CheckpointError(
                "frozen parameters changed while the trial was training",
                fix="report this: the trial's results are not to be trusted",
            )

    def _evaluate(self, watch: Watch, num_steps: int, train_loss: float | None) -> Evaluation:
        """Evaluate the interval that was trained; times are filled in by the caller."""
        if watch.divergence is not None:
            self.step += watch.divergence.index + 1
            return _diverged(self.step, watch.divergence.reason)
        self.step += num_steps
        store = self._stores.validation
        result = score(self._model, self._task, "validation", self._device, self._bf16, store)
        if not result.loss < float("inf"):
            return _diverged(self.step, f"the validation loss became {result.loss}")
        return Evaluation(self.step, train_loss, result.loss, result.accuracy, 0.0, 0.0)

    def _note(self, evaluation: Evaluation) -> None:
        """Remember an evaluation, and the parameters if they are the best so far."""
        self.last_evaluation = evaluation
        accuracy, loss = evaluation.validation_accuracy, evaluation.validation_loss
        if accuracy is None or loss is None:
            self.improved = False
            return
        candidate = Best(evaluation.step, accuracy, loss)
        self.improved = candidate.beats(self._best, self._plan.metric)
        if self.improved:
            self._best = candidate
            self._best_parameters = self._copy_trained()

    def _restore(self, document: Mapping[str, Any]) -> None:
        best, last = document["best"], document["last_evaluation"]
        self.step = document["step"]
        self.improved = document["improved"]
        self.last_evaluation = Evaluation(**last) if last else None
        self._train_s, self._wall_s = document["train_s"], document["wall_s"]
        self._best = Best(**best) if best else None
        # A state whose last evaluation was the best holds the best parameters itself.
        self._best_parameters = self._copy_trained() if self.improved else None

    def _copy_trained(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._stepper.trained.items()}

    @torch.no_grad()
    def _assign(self, parameters: Mapping[str, Tensor]) -> None:
        for name, parameter in self._stepper.trained.items():
            parameter.copy_(parameters[name])

    def _require_best(self) -> dict[str, Tensor]:
        if self._best_parameters is None:
            raise ValueError("there are no best parameters: evaluate, or load them")
        return self._best_parameters

    def _check_frozen(self, found: str) -> None:
        if found != self._frozen:
            raise CheckpointError(
                "the checkpoint was trained on other frozen weights",
                fix="restore the backbone that it was trained with, or delete the trial's folder",
            )


def train(trainer: Trainer, eval_every: int) -> Iterator[Evaluation]:
    """Train to the end, yielding every evaluation.

    Args:
        trainer: new, or loaded from a state.
        eval_every: steps between evaluations.
    """
    while not trainer.finished:
        yield trainer.advance(eval_every)


def _diverged(step: int, reason: str) -> Evaluation:
    return Evaluation(step, None, None, None, 0.0, 0.0, diverged=True, reason=reason)


def _prefixed(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_PARAMETER + name: value for name, value in parameters.items()}


def _unprefixed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefixed = ((name, value) for name, value in tensors.items() if name.startswith(_PARAMETER))
    return {name.removeprefix(_PARAMETER): value for name, value in prefixed}
