"""A trial between its run directory and the packs that train it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from fpt_ray.config import TrialSettings
from fpt_ray.data.deliver import Delivery
from fpt_ray.data.stream import StreamedTask
from fpt_ray.errors import TrialError
from fpt_ray.records.trial import parse_log
from fpt_ray.storage import RunDirectory
from fpt_ray.tasks import Task
from fpt_ray.training import Evaluation, PackedTrial, TestResult

Prepare = Callable[[TrialSettings, int, Task], PackedTrial]
"""Makes a trial that is ready to train, of its settings, its seed and its task."""

_LOGGED = (
    "step",
    "train_loss",
    "validation_loss",
    "validation_accuracy",
    "train_s",
    "wall_s",
    "diverged",
    "reason",
    "pack",
)


class TrialSession:
    """Load what a trial has saved, save on, and know which evaluations its log holds.

    Args:
        run: the sweep's run directory.
        order: trial_id, stage, seed and settings, as the searcher handed them out.
        delivery: how its data reach it.
        prepare: makes the trial.

    Raises:
        CheckpointError: what is saved is damaged, or belongs to another trial.
        FptRayError: the trial cannot be prepared.
    """

    def __init__(
        self, run: RunDirectory, order: Mapping[str, Any], delivery: Delivery, prepare: Prepare
    ) -> None:
        self._run = run
        self._trial_id: str = order["trial_id"]
        self._is_finalist = order["stage"] == "final"
        self._seed: int = order["seed"]
        self._settings = TrialSettings.model_validate(order["settings"])
        self._prepare = prepare
        self._task: Task = delivery.task(self._settings, self._seed)
        try:
            log = run.log_of(self._trial_id)
            evaluations = parse_log(run.read_bytes(log), log)
            self._logged_step = evaluations[-1].step if evaluations else 0
            self.trial = self._restored()
            self._require_steps()
        except BaseException:
            self.close()
            raise

    @property
    def due_step(self) -> int:
        """The step of the next evaluation."""
        return self._evaluation_after(self.trial.step)

    @property
    def at_rest(self) -> bool:
        """Whether it could be opened again without training anything twice."""
        last = self.trial.last_evaluation
        return self.trial.step == (0 if last is None else last.step)

    def unreported(self) -> Evaluation | None:
        """Return the evaluation that was saved but whose report never reached the log."""
        last = self.trial.last_evaluation
        return last if last is not None and self.is_new(last) else None

    def is_new(self, evaluation: Evaluation) -> bool:
        """Tell whether an evaluation is not in the log; a state can lie behind its log."""
        return evaluation.step > self._logged_step

    def is_last(self, evaluation: Evaluation) -> bool:
        """Tell whether nothing comes after an evaluation: it diverged, or all steps are made."""
        return evaluation.diverged or self._is_full_length(evaluation)

    def needs_test(self, evaluation: Evaluation) -> bool:
        """Tell whether this evaluation is a finalist's last one."""
        return self._is_finalist and self._is_full_length(evaluation)

    def save(self, evaluation: Evaluation) -> None:
        """Write best parameters and state; of a trial that diverged nothing is kept.

        Raises:
            RunDirectoryError: the run directory cannot be written.
        """
        if evaluation.diverged:
            return
        if self.trial.improved:
            self._run.write_bytes(self._run.best_of(self._trial_id), self.trial.best())
        self._run.write_bytes(self._run.state_of(self._trial_id), self.trial.state())

    def verify(self, evaluation: Evaluation) -> None:
        """Prove, at the end of a whole trial, that the weights it shares have not changed.

        Raises:
            CheckpointError: at least one of them has.
        """
        if self._is_full_length(evaluation):
            self.trial.verify_frozen()

    def report(self, evaluation: Evaluation, test: TestResult | None) -> dict[str, Any]:
        """Describe an evaluation that is not in the log yet, and count it as reported.

        Args:
            evaluation: new.
            test: measures of the test split where they were due.

        Returns:
            What the log keeps of an evaluation, sequence and decision aside.
        """
        self._logged_step = evaluation.step
        known = dataclasses.asdict(evaluation)
        result = {name: known[name] for name in _LOGGED}
        result["trained_parameters"] = self.trial.num_trained_parameters
        if test is not None:
            result |= {
                "test_loss": test.loss,
                "test_accuracy": test.accuracy,
                "test_examples": test.num_examples,
                "test_skipped": test.num_skipped,
            }
        return result

    def close(self) -> None:
        """End what delivers its data."""
        if isinstance(self._task, StreamedTask):
            self._task.close()

    def _fresh(self) -> PackedTrial:
        return self._prepare(self._settings, self._seed, self._task)

    def _restored(self) -> PackedTrial:
        trial = self._fresh()
        state = self._run.read_bytes(self._run.state_of(self._trial_id))
        if state is None:
            return trial
        trial.load_state(state)
        # A state that is more than one evaluation ahead has lost its log, and those evaluations
        # with it.
        if trial.step > self._evaluation_after(self._logged_step):
            return self._fresh()
        best = self._run.read_bytes(self._run.best_of(self._trial_id))
        # A state that was the best holds the best parameters itself; the file may be one ahead.
        if best is not None and not trial.improved:
            trial.load_best(best)
        return trial

    def _evaluation_after(self, step: int) -> int:
        every = self._settings.training.eval_every
        return min((step // every + 1) * every, self._settings.training.max_steps)

    def _is_full_length(self, evaluation: Evaluation) -> bool:
        return evaluation.step >= self._settings.training.max_steps and not evaluation.diverged

    def _require_steps(self) -> None:
        if self.unreported() is None and self._logged_step >= self._settings.training.max_steps:
            raise TrialError(
                "nothing is left to train: all steps are in the log",
                where=self._run.log_of(self._trial_id),
                fix="report this: a trial that has ended must not be started again",
            )
