"""A sweep as its run directory tells it, and the choice of each arm's winner."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fpt_ray.errors import RunDirectoryError
from fpt_ray.records.trial import Direction, TrialRecord, best_of, parse_log, status_of
from fpt_ray.storage import RunDirectory


@dataclass(frozen=True, slots=True)
class ArmRecord:
    """One arm: its name, and its label on each ``compare`` axis."""

    name: str
    labels: Mapping[str, str]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SweepRecord:
    """Everything that a run directory says about its sweep.

    ``trials`` come in the order arm, stage, slot. ``resolved`` is the whole of ``resolved.json``.
    """

    resolved: Mapping[str, Any]
    arms: tuple[ArmRecord, ...]
    trials: tuple[TrialRecord, ...]

    @property
    def name(self) -> str:
        """The sweep's name."""
        return str(self.resolved["name"])

    @property
    def seed(self) -> int:
        """The root of every seed of the sweep."""
        return int(self.resolved["seed"])

    @property
    def reference(self) -> str:
        """The name of the arm that the others are tested against."""
        return str(self.resolved["reference"])

    @property
    def metric(self) -> str:
        """The validation metric that configurations are selected by."""
        return str(self.resolved["metric"])

    @property
    def direction(self) -> Direction:
        """Whether a larger or a smaller metric is better."""
        direction: Direction = self.resolved["direction"]
        return direction

    @property
    def space(self) -> Mapping[str, Any]:
        """The tuned keys and their domains; empty without ``tune``."""
        tune: Mapping[str, Any] | None = self.resolved["tune"]
        return tune["space"] if tune else {}

    @property
    def scheduler(self) -> Mapping[str, Any]:
        """The scheduler's settings; ``{"name": "fifo"}`` without ``tune``."""
        tune: Mapping[str, Any] | None = self.resolved["tune"]
        return tune["scheduler"] if tune else {"name": "fifo"}

    @property
    def num_trials(self) -> int:
        """How many tuning trials each arm gets."""
        return int(self.resolved["num_trials"])

    @property
    def final_seeds(self) -> tuple[int, ...]:
        """The seeds that every arm's finalists share."""
        return tuple(self.resolved["final_seeds"])

    @property
    def max_steps(self) -> int:
        """How many steps a full-length trial has."""
        return int(self.resolved["max_steps"])

    def of_arm(self, arm: str, stage: str) -> tuple[TrialRecord, ...]:
        """Pick an arm's trials of one stage."""
        return tuple(t for t in self.trials if t.arm == arm and t.stage == stage)

    def winner(self, arm: str) -> TrialRecord | None:
        """Find the trial of an arm's best configuration; None before one trained to full length."""
        tuned = self.of_arm(arm, "tune")
        return select_winner(tuned, self.metric, self.direction, _num_seeds(self.resolved))

    def finalists(self, arm: str) -> tuple[TrialRecord, ...]:
        """Pick the final-stage trials of an arm's current winner, by seed."""
        chosen = [t for t in self.of_arm(arm, "final") if t.status != "superseded"]
        return tuple(sorted(chosen, key=lambda t: t.seed_index))

    def current_finalists(self, arm: str) -> tuple[TrialRecord, ...]:
        """Pick the finalists that a report counts: of the winner, with the seeds asked for now."""
        winner = self.winner(arm)
        return tuple(
            trial
            for trial in self.finalists(arm)
            if trial.seed in self.final_seeds and (winner is None or trial.values == winner.values)
        )

    def is_searched(self, arm: str) -> bool:
        """Tell whether an arm's search has ended, so that its winner cannot change any more."""
        tuned = self.of_arm(arm, "tune")
        return len(tuned) >= self.num_trials and all(t.status != "running" for t in tuned)


def select_winner(
    trials: Iterable[TrialRecord], metric: str, direction: Direction, num_seeds: int = 1
) -> TrialRecord | None:
    """Select an arm's best configuration on validation.

    Only configurations whose trials all trained to full length can win, since a trial that was
    stopped early was never measured where the others were. With several tuning seeds a
    configuration counts with its mean, once all ``num_seeds`` have ended. Ties go to the smaller
    validation loss, then to the smaller trial id.

    Returns:
        The winning configuration's first trial, or None if no configuration trained to full length.
    """
    groups: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        groups.setdefault(configuration_key(trial.values), []).append(trial)
    whole = [group for group in groups.values() if len(group) >= num_seeds]
    full = [g for g in whole if all(t.status == "finished" and t.best for t in g)]
    if not full:
        return None

    def rank(group: list[TrialRecord]) -> tuple[float, float, str]:
        best = [t.best for t in group if t.best is not None]
        return (
            -statistics.fmean(e.value(metric, direction) for e in best),
            -statistics.fmean(e.value("validation_loss", "min") for e in best),
            min(t.trial_id for t in group),
        )

    best = sorted(full, key=rank)[0]
    return min(best, key=lambda t: t.seed_index)


def _num_seeds(resolved: Mapping[str, Any]) -> int:
    return int(resolved["tune"].get("seeds", 1)) if resolved["tune"] else 1


def configuration_key(values: Mapping[str, Any]) -> str:
    """Name a configuration by its tuned values, whatever their order."""
    return json.dumps(dict(values), sort_keys=True)


def load_sweep_record(run: RunDirectory) -> SweepRecord:
    """Read a finished or running sweep from its run directory.

    Raises:
        RunDirectoryError: there is no sweep, or a file in it is damaged.
    """
    resolved = run.read_json(RunDirectory.RESOLVED)
    if resolved is None:
        raise RunDirectoryError(
            "not a run directory: it has no resolved.json",
            where=run.uri,
            fix="give the directory STORAGE/NAME of a sweep that was started",
        )
    return assemble(resolved, load_trials(run, resolved))


def load_trials(run: RunDirectory, resolved: Mapping[str, Any]) -> list[TrialRecord]:
    """Read all trials of a run directory, each with the status that its own files give it."""
    trials = (
        _load_trial(run, trial_id, resolved) for trial_id in run.directories(RunDirectory.TRIALS)
    )
    return [trial for trial in trials if trial is not None]


def _load_trial(
    run: RunDirectory, trial_id: str, resolved: Mapping[str, Any]
) -> TrialRecord | None:
    """Read one trial; None for a folder that was created but never got its configuration."""
    config = run.read_json(run.config_of(trial_id))
    if config is None:
        return None
    evaluations = parse_log(run.read_bytes(run.log_of(trial_id)), run.log_of(trial_id))
    failure = run.read_json(run.failure_of(trial_id))
    status, reason = status_of(evaluations, resolved["max_steps"], failure)
    best = best_of(evaluations, resolved["metric"], resolved["direction"])
    return TrialRecord(**config, evaluations=evaluations, status=status, reason=reason, best=best)


def assemble(resolved: Mapping[str, Any], trials: Sequence[TrialRecord]) -> SweepRecord:
    """Put a sweep's trials in order and mark the finalists of configurations that no longer win."""
    arms = tuple(ArmRecord(**arm) for arm in resolved["arms"])
    position = {arm.name: index for index, arm in enumerate(arms)}
    metric, direction = resolved["metric"], resolved["direction"]
    winners = {
        arm.name: select_winner(
            (t for t in trials if t.arm == arm.name and t.stage == "tune"),
            metric,
            direction,
            _num_seeds(resolved),
        )
        for arm in arms
    }

    def judged(trial: TrialRecord) -> TrialRecord:
        # An arm's labels may have been renamed since the trial was handed out.
        trial = dataclasses.replace(trial, labels=arms[position[trial.arm]].labels)
        winner = winners[trial.arm]
        if trial.stage == "tune" or winner is None:
            return trial
        if configuration_key(trial.values) == configuration_key(winner.values):
            return trial
        return dataclasses.replace(
            trial, status="superseded", reason=f"the arm's winner is now {winner.trial_id}"
        )

    def order(trial: TrialRecord) -> tuple[int, bool, int, int]:
        return position[trial.arm], trial.stage == "final", trial.slot, trial.seed_index

    known = [t for t in trials if t.arm in position]
    return SweepRecord(resolved, arms, tuple(sorted(map(judged, known), key=order)))
