"""Sweeps built by hand: records as a run directory would give them, without training anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fpt_ray.records import EvaluationRecord, SweepRecord, TrialRecord
from fpt_ray.records.sweep import assemble
from fpt_ray.records.trial import best_of, status_of
from fpt_ray.storage import RunDirectory

LEARNING_RATE = "training.learning_rate"
RATES = (1e-4, 1e-3, 1e-2)
MAX_STEPS = 300
EVALUATE_EVERY = 100
TASK = {"name": "bit_xor", "length": 5, "patterns": 2}


@dataclass
class SweepBuilder:
    """Collects trials and makes them a record; every default is a sweep of three learning rates."""

    arms: Sequence[str] = ("pretrained", "random")
    num_seeds: int = 3
    space: dict[str, Any] = field(default_factory=lambda: {LEARNING_RATE: {"grid": list(RATES)}})
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    reference: str | None = None
    trials: list[TrialRecord] = field(default_factory=list)
    sequences: Iterator[int] = field(default_factory=count)
    test_skipped: int | None = None

    def tune(self, arm: str, rate: float, accuracies: Sequence[float | None]) -> TrialRecord:
        """Add a tuning trial: one with fewer than three accuracies was stopped, None diverged."""
        slot = sum(t.arm == arm and t.stage == "tune" for t in self.trials)
        return self._add(arm, "tune", slot, {LEARNING_RATE: rate}, accuracies)

    def final(
        self,
        arm: str,
        rate: float | None,
        index: int,
        test: float | None,
        accuracies: Sequence[float | None] | None = None,
    ) -> TrialRecord:
        """Add a finalist: without a test accuracy it diverged, with accuracies it goes on."""
        values = {} if rate is None else {LEARNING_RATE: rate}
        shown = accuracies or ([0.5, None] if test is None else [0.5, 0.6, test])
        trial = self._add(arm, "final", index, values, shown, running=accuracies is not None)
        if test is not None:
            last = replace(
                trial.evaluations[-1],
                test_accuracy=test,
                test_loss=1 - test,
                test_examples=400,
                test_skipped=self.test_skipped,
            )
            trial = replace(trial, evaluations=(*trial.evaluations[:-1], last))
            self.trials[-1] = trial
        return trial

    def fail(self, reason: str) -> None:
        """Turn the last trial into one that failed after all its retries."""
        trial = self.trials[-1]
        evaluations = tuple(replace(e, decision="continue") for e in trial.evaluations[:-1])
        best = best_of(evaluations, "validation_accuracy", "max")
        self.trials[-1] = replace(
            trial, status="failed", reason=reason, evaluations=evaluations, best=best
        )

    def record(self, **changes: Any) -> SweepRecord:
        """Assemble the record as reading a run directory would."""
        resolved = {
            "name": "demo",
            "seed": 0,
            "reference": self.reference or self.arms[0],
            "metric": "validation_accuracy",
            "direction": "max",
            "tune": {"space": self.space, "scheduler": {"name": "asha"}} if self.space else None,
            "num_trials": len(RATES) if self.space else 0,
            "final_seeds": [100 + index for index in range(self.num_seeds)],
            "max_steps": MAX_STEPS,
            "arms": [
                {"name": arm, "labels": {"init": arm}, "settings": self._settings(arm)}
                for arm in self.arms
            ],
        }
        return assemble(resolved | changes, self.trials)

    def _settings(self, arm: str) -> dict[str, Any]:
        return {"task": self.tasks.get(arm, TASK), "model": {"init": arm}}

    def _add(
        self,
        arm: str,
        stage: Any,
        slot: int,
        values: dict[str, Any],
        accuracies: Sequence[float | None],
        running: bool = False,
    ) -> TrialRecord:
        evaluations = tuple(
            self._evaluate(index, accuracy, len(accuracies), running)
            for index, accuracy in enumerate(accuracies)
        )
        status, reason = status_of(evaluations, MAX_STEPS, None)
        trial = TrialRecord(
            trial_id=f"{len(self.trials):012x}",
            stage=stage,
            arm=arm,
            labels={"init": arm},
            slot=slot,
            seed=100 + slot if stage == "final" else 7,
            seed_index=slot if stage == "final" else 0,
            values=values,
            settings=self._settings(arm),
            evaluations=evaluations,
            status=status,
            reason=reason,
            best=best_of(evaluations, "validation_accuracy", "max"),
        )
        self.trials.append(trial)
        return trial

    def _evaluate(
        self, index: int, accuracy: float | None, num: int, running: bool
    ) -> EvaluationRecord:
        step = EVALUATE_EVERY * (index + 1)
        last = index == num - 1
        decision: Any = "continue"
        if accuracy is None:
            decision = "diverge"
        elif step == MAX_STEPS:
            decision = "finish"
        elif last and not running:
            decision = "stop"
        return EvaluationRecord(
            step=step,
            sequence=next(self.sequences),
            decision=decision,
            train_loss=None if accuracy is None else 1.1 - accuracy,
            validation_loss=None if accuracy is None else 1 - accuracy,
            validation_accuracy=accuracy,
            train_s=2.0 * (index + 1),
            wall_s=2.5 * (index + 1),
            trained_parameters=1234,
            reason="the loss is nan" if accuracy is None else None,
            pack=3 - index,
        )


@pytest.fixture
def new_sweep() -> Callable[..., SweepBuilder]:
    return SweepBuilder


@pytest.fixture
def searched() -> SweepBuilder:
    """Two arms, searched with every kind of ending; no finalists yet."""
    sweep = SweepBuilder()
    sweep.tune("pretrained", 1e-4, [0.5])
    sweep.tune("pretrained", 1e-3, [0.6, 0.8, 0.95])
    sweep.tune("pretrained", 1e-2, [0.55, None])
    sweep.tune("random", 1e-4, [0.5, 0.52])
    sweep.tune("random", 1e-3, [0.5, 0.6, 0.7])
    sweep.tune("random", 1e-2, [0.5, 0.7, 0.75])
    return sweep


@pytest.fixture
def finished(searched: SweepBuilder) -> SweepBuilder:
    """The same with all finalists tested."""
    for index, (ours, theirs) in enumerate([(0.96, 0.80), (0.94, 0.70), (0.98, 0.75)]):
        searched.final("pretrained", 1e-3, index, ours)
        searched.final("random", 1e-2, index, theirs)
    return searched


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """An empty run directory below a folder with a space in its name."""
    return RunDirectory(tmp_path / "my runs" / "demo")
