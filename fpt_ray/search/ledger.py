"""What the driver knows about the sweep's trials; every change is written before it is acted on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fpt_ray.records import Decision, EvaluationRecord, SweepRecord, TrialRecord
from fpt_ray.records.sweep import assemble, load_trials
from fpt_ray.records.trial import best_of, status_of
from fpt_ray.storage import Lease, RunDirectory

CONFIG_FIELDS = (
    "trial_id",
    "stage",
    "arm",
    "labels",
    "slot",
    "seed",
    "seed_index",
    "values",
    "settings",
)


class Ledger:
    """The driver's view of a run directory, and its only writer of configurations and logs.

    Args:
        run: the run directory.
        lease: checked before every write, so that a driver that lost the directory stops writing.
        resolved: the sweep as understood now.
    """

    def __init__(self, run: RunDirectory, lease: Lease, resolved: Mapping[str, Any]) -> None:
        self._run = run
        self._lease = lease
        self.resolved = resolved
        trials = load_trials(run, resolved)
        self.trials: dict[str, TrialRecord] = {t.trial_id: t for t in trials}
        self._logs: dict[str, bytes] = {}
        self._sequence = max((e.sequence for t in trials for e in t.evaluations), default=-1)

    @property
    def max_steps(self) -> int:
        """How many steps a full-length trial has."""
        return int(self.resolved["max_steps"])

    def record(self) -> SweepRecord:
        """Look at the whole sweep as it stands."""
        return assemble(self.resolved, list(self.trials.values()))

    def of_arm(self, arm: str, stage: str) -> list[TrialRecord]:
        """Pick an arm's trials of one stage, in the order of their slots."""
        mine = (t for t in self.trials.values() if t.arm == arm and t.stage == stage)
        return sorted(mine, key=lambda t: (t.slot, t.seed_index))

    def suggest(self, trial: TrialRecord) -> None:
        """Record a trial before it is handed out, or its new settings before it goes on."""
        self._lease.check()
        config = {name: getattr(trial, name) for name in CONFIG_FIELDS}
        self._run.write_json(self._run.config_of(trial.trial_id), config)
        self._run.delete(self._run.failure_of(trial.trial_id))
        former = self.trials.get(trial.trial_id)
        self.trials[trial.trial_id] = dataclasses.replace(
            trial,
            status="running",
            reason=None,
            evaluations=former.evaluations if former else (),
            best=former.best if former else None,
        )

    def log(self, trial_id: str, result: Mapping[str, Any], decision: Decision) -> None:
        """Commit an evaluation and what was decided on it.

        Args:
            trial_id: whose evaluation it is.
            result: what the trial reported.
            decision: what becomes of the trial; stored decisions are final.
        """
        self._lease.check()
        evaluation = EvaluationRecord(
            step=result["step"],
            sequence=self._sequence + 1,
            decision=decision,
            train_loss=result["train_loss"],
            validation_loss=result["validation_loss"],
            validation_accuracy=result["validation_accuracy"],
            train_s=result["train_s"],
            wall_s=result["wall_s"],
            trained_parameters=result["trained_parameters"],
            reason=result.get("reason"),
            test_loss=result.get("test_loss"),
            test_accuracy=result.get("test_accuracy"),
            test_examples=result.get("test_examples"),
            test_skipped=result.get("test_skipped"),
            pack=result.get("pack"),
        )
        log = self._run.log_of(trial_id)
        former = self._logs.get(trial_id)
        if former is None:
            former = self._run.read_bytes(log) or b""
        data = former + evaluation.to_line().encode()
        self._run.write_bytes(log, data)
        self._sequence += 1
        self._logs[trial_id] = data
        self._append(trial_id, evaluation)

    def fail(self, trial_id: str, reason: str, attempts: int) -> None:
        """Record that a trial failed after all its retries."""
        self._lease.check()
        self._run.write_json(
            self._run.failure_of(trial_id), {"reason": reason, "attempts": attempts}
        )
        self.trials[trial_id] = dataclasses.replace(
            self.trials[trial_id], status="failed", reason=reason
        )

    def _append(self, trial_id: str, evaluation: EvaluationRecord) -> None:
        trial = self.trials[trial_id]
        evaluations = (*trial.evaluations, evaluation)
        status, reason = status_of(evaluations, self.max_steps, None)
        if status != "running":
            self._logs.pop(trial_id, None)
        self.trials[trial_id] = dataclasses.replace(
            trial,
            evaluations=evaluations,
            status=status,
            reason=reason,
            best=best_of(evaluations, self.resolved["metric"], self.resolved["direction"]),
        )
