"""One trial alone: train, evaluate, save, resume and test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import perf_counter

import torch
from torch import Tensor

from fpt_ray.models import SequenceModel, frozen_fingerprint
from fpt_ray.tasks import Task
from fpt_ray.training.course import Course, Plan, diverged, judge
from fpt_ray.training.divergence import Watch
from fpt_ray.training.features import Stores, plan_stores
from fpt_ray.training.feed import Feed
from fpt_ray.training.results import Evaluation, Slope, TestResult
from fpt_ray.training.scoring import score
from fpt_ray.training.steps import Recipe, Stepper


class Trainer:
    """Train one model on one task, in intervals that end with an evaluation.

    Equal arguments give equal parameters after equal steps, however often training is
    interrupted: to the bit on a CPU with the same number of threads, and on a GPU as far as its
    kernels repeat themselves. What trains in a pack is held against it.

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
        self._model = model
        self._task = task
        self._device = device
        self._bf16 = recipe.precision == "bf16"
        self._course = Course(plan, frozen)
        self._stores = Stores()
        if recipe.cache_features and not self._bf16:
            self._stores = plan_stores(model, task, plan.max_steps * recipe.batch_size, device)
        feed = Feed(task, plan.seed, recipe.batch_size, plan.max_steps, device)
        self._stepper = Stepper(model, feed, recipe, plan.seed, device, self._stores.train)

    @property
    def step(self) -> int:
        """Count the updates so far; where training diverged, including the one that went wrong."""
        return self._course.step

    @property
    def last_evaluation(self) -> Evaluation | None:
        """Give the last evaluation, if there was one."""
        return self._course.last_evaluation

    @property
    def improved(self) -> bool:
        """Whether the last evaluation was the best so far."""
        return self._course.improved

    @property
    def num_trained_parameters(self) -> int:
        """Count the numbers that get updates."""
        return sum(parameter.numel() for parameter in self._stepper.trained.values())

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train: all steps are made, or training diverged."""
        return self._course.finished

    def advance(self, num_steps: int) -> Evaluation:
        """Train, then evaluate the whole validation split.

        Args:
            num_steps: updates to make; fewer are made where ``max_steps`` ends before.

        Raises:
            ValueError: training has diverged before.
        """
        self._course.require_open()
        started = perf_counter()
        num_steps = self._course.remaining(num_steps)
        watch = self._stepper.run(self.step, num_steps)
        train_loss = watch.finish()
        trained = perf_counter()
        evaluation = self._evaluate(watch, num_steps, train_loss)
        self._course.spend(trained - started, perf_counter() - trained)
        return self._course.note(evaluation, self._stepper.trained)

    def slope(self) -> Slope:
        """Compute the loss and the gradients of the step that comes next; nothing changes."""
        return self._stepper.slope(self.step)

    def values(self) -> dict[str, Tensor]:
        """Give the trained parameters by name; they go on changing with training."""
        return {name: value.detach() for name, value in self._stepper.trained.items()}

    def test(self) -> TestResult:
        """Evaluate the best parameters on the test split.

        Raises:
            ValueError: there was no evaluation, and no best parameters were loaded.
        """
        best = self._course.require_best()
        current = {name: value.clone() for name, value in self.values().items()}
        self._assign(best)
        try:
            return score(self._model, self._task, "test", self._device, self._bf16)
        finally:
            self._assign(current)

    def state(self) -> bytes:
        """Save all that training needs to go on exactly: one safetensors file."""
        return self._course.state(self._stepper.trained, self._stepper.moments())

    def load_state(self, data: bytes) -> None:
        """Go back to a saved state.

        It holds the best parameters only if its last evaluation was the best; otherwise they are
        loaded by ``load_best``.

        Raises:
            CheckpointError: it is damaged or belongs to another trial.
        """
        saved = self._course.load_state(data, self._stepper.trained)
        self._assign(saved.parameters)
        self._stepper.load_moments(saved.moments)

    def best(self) -> bytes:
        """Save the trained parameters that had the best evaluation: one safetensors file.

        Raises:
            ValueError: there was no evaluation, and no best parameters were loaded.
        """
        return self._course.best()

    def load_best(self, data: bytes) -> None:
        """Load the parameters that ``test`` shall use.

        Raises:
            CheckpointError: they are damaged or belong to another trial.
        """
        self._course.load_best(data, self._stepper.trained)

    def verify_frozen(self) -> None:
        """Prove that the frozen parameters are those that were loaded.

        Raises:
            CheckpointError: at least one of them changed.
        """
        self._course.check_frozen(frozen_fingerprint(self._model))

    def _evaluate(self, watch: Watch, num_steps: int, train_loss: float | None) -> Evaluation:
        """Evaluate the interval that was trained, its times aside."""
        if watch.divergence is not None:
            self._course.step += watch.divergence.index + 1
            return diverged(self.step, watch.divergence.reason)
        self._course.step += num_steps
        store = self._stores.validation
        result = score(self._model, self._task, "validation", self._device, self._bf16, store)
        return judge(self.step, train_loss, result)

    @torch.no_grad()
    def _assign(self, parameters: Mapping[str, Tensor]) -> None:
        for name, parameter in self._stepper.trained.items():
            parameter.copy_(parameters[name])


def train(trainer: Trainer, eval_every: int) -> Iterator[Evaluation]:
    """Train to the end, yielding every evaluation.

    Args:
        trainer: new, or loaded from a state.
        eval_every: steps between evaluations.
    """
    while not trainer.finished:
        yield trainer.advance(eval_every)
