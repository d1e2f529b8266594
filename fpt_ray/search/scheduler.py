"""The scheduler that Ray Tune sees: one for each arm, and the log that makes them durable."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from fpt_ray.config import AshaScheduler, Sweep
from fpt_ray.records import Decision, EvaluationRecord, TrialRecord
from fpt_ray.search.ledger import Ledger

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


@dataclass(frozen=True, slots=True)
class _Known:
    """What an arm's scheduler needs to know of a trial: a name that outlives Tune's own."""

    trial_id: str


class ArmScheduler(TrialScheduler):
    """Routes every evaluation to its arm's scheduler and commits it to the log with the decision.

    Arms never meet in a rung. At construction each arm's fresh scheduler is fed the log in the
    order in which it was written, so its rungs are those of the driver that was killed. Decisions
    that are in the log stand, whatever the fresh scheduler would say.

    Args:
        sweep: the sweep.
        ledger: takes every evaluation and decision before Tune hears of it.
    """

    # With buffering Tune trains on while a STOP waits, and rungs are missed.
    _supports_buffered_results = False

    def __init__(self, sweep: Sweep, ledger: Ledger) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ledger = ledger
        self.arms: dict[str, TrialScheduler] = {a.name: _scheduler(sweep) for a in sweep.arms}
        self._added: set[str] = set()
        self._replay()

    def _replay(self) -> None:
        logged = [
            (evaluation, trial)
            for trial in self._ledger.trials.values()
            for evaluation in trial.evaluations
            if trial.arm in self.arms
        ]
        for evaluation, trial in sorted(logged, key=lambda pair: pair[0].sequence):
            self._consult(trial, _as_result(evaluation))

    def _consult(self, trial: TrialRecord, result: dict[str, Any]) -> str:
        """Ask the arm's scheduler; finalists and divergences are none of its business."""
        if trial.stage == "final" or result.get("diverged"):
            return TrialScheduler.CONTINUE
        # ASHA reads nothing of a trial but its name, and nothing of the controller.
        inner: Any = self.arms[trial.arm]
        known = _Known(trial.trial_id)
        if trial.trial_id not in self._added:
            self._added.add(trial.trial_id)
            inner.on_trial_add(None, known)
        return str(inner.on_trial_result(None, known, result))

    def _decide(self, trial: TrialRecord, result: dict[str, Any]) -> Decision:
        asked = self._consult(trial, result)
        if result["diverged"]:
            return "diverge"
        if result["step"] >= self._ledger.max_steps:
            return "finish"
        return "stop" if asked == TrialScheduler.STOP else "continue"

    def on_trial_result(
        self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]
    ) -> str:
        """Decide on an evaluation and commit both; a step that is in the log counts once."""
        record = self._ledger.trials[trial.config["trial"]["trial_id"]]
        if result["step"] <= record.steps:
            return TrialScheduler.CONTINUE if record.status == "running" else TrialScheduler.STOP
        decision = self._decide(record, result)
        self._ledger.log(record.trial_id, result, decision)
        return TrialScheduler.CONTINUE if decision == "continue" else TrialScheduler.STOP

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """Choose the waiting trial whose arm has the fewest running, so that none falls behind."""
        trials = tune_controller.get_trials()
        running = Counter(t.config["trial"]["arm"] for t in trials if t.status == Trial.RUNNING)
        waiting = [t for t in trials if t.status == Trial.PENDING]
        return min(waiting, key=lambda t: running[t.config["trial"]["arm"]], default=None)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Accept what Tune offers: the arms' schedulers have their metric and mode already."""
        return True

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Do nothing: a trial enters its arm's scheduler with its first evaluation."""

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """Do nothing: a retried trial goes on from its last evaluation, its rungs stand."""

    def on_trial_complete(
        self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]
    ) -> None:
        """Do nothing: the last evaluation was committed when it arrived."""

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        """Do nothing: a trial that never ran has left no trace in a rung."""

    def debug_string(self) -> str:
        """Describe the arms' schedulers."""
        return "; ".join(f"{arm}: {inner.debug_string()}" for arm, inner in self.arms.items())

    def __getstate__(self) -> dict[str, Any]:
        """Pickle as an empty shell: Tune pickles it for `Tuner.restore`, which is never used."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the log is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the log is the memory."""


def _scheduler(sweep: Sweep) -> TrialScheduler:
    if sweep.tune is None or not isinstance(sweep.tune.scheduler, AshaScheduler):
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="step",
        metric=sweep.tune.metric,
        mode=sweep.tune.direction,
        max_t=sweep.training.max_steps,
        grace_period=sweep.tune.scheduler.grace_period,
        reduction_factor=sweep.tune.scheduler.reduction_factor,
    )


def _as_result(evaluation: EvaluationRecord) -> dict[str, Any]:
    return {
        "step": evaluation.step,
        "validation_loss": evaluation.validation_loss,
        "validation_accuracy": evaluation.validation_accuracy,
        "diverged": evaluation.decision == "diverge",
    }
