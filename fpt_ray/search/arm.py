"""One arm's way through a sweep: its search, then its winner over all final seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from fpt_ray.config import Arm, Sweep, TrialSettings, trial_id
from fpt_ray.records import Stage, TrialRecord
from fpt_ray.records.sweep import select_winner
from fpt_ray.search.ledger import Ledger
from fpt_ray.search.proposals import Values, propose
from fpt_ray.seeding import trial_seed


class ArmSearch:
    """Hands out an arm's trials: interrupted ones first, then new configurations, then finalists.

    Args:
        sweep: the sweep.
        arm: the arm.
        fingerprints: tells those of the weights and data of a trial's settings, which are part
            of its identity; tuned values may change them.
        ledger: what is known so far; read here, written by whoever takes a trial.
    """

    def __init__(
        self,
        sweep: Sweep,
        arm: Arm,
        fingerprints: Callable[[TrialSettings], Mapping[str, str]],
        ledger: Ledger,
    ) -> None:
        self.name = arm.name
        self._sweep = sweep
        self._arm = arm
        self._fingerprints = fingerprints
        self._ledger = ledger
        self._interrupted = self._unfinished("tune")
        self._waiting = self._missing_seeds()
        self._exhausted = sweep.tune is None
        self._finalists: Iterator[TrialRecord] | None = None
        self.done = False

    def next_trial(self) -> TrialRecord | None:
        """Name the trial to train next; None while the arm must wait for its own, or is done."""
        trial = self._next_tuning() if not self._tuned else None
        if trial is None and self._tuned and not self.done:
            trial = self._next_finalist()
        return trial

    @property
    def _tuned(self) -> bool:
        return (
            self._exhausted
            and not self._interrupted
            and not self._waiting
            and all(t.status != "running" for t in self._ledger.of_arm(self.name, "tune"))
        )

    def _unfinished(self, stage: Stage) -> list[TrialRecord]:
        trials = self._ledger.of_arm(self.name, stage)
        return [self._renewed(t) for t in trials if t.status in ("running", "failed")]

    def _renewed(self, trial: TrialRecord) -> TrialRecord:
        """Give a logged trial today's max_steps and paths, which are no part of its identity."""
        settings = self._arm.settings.with_values(trial.values)
        return dataclasses.replace(trial, settings=settings.model_dump(mode="json"))

    def _next_tuning(self) -> TrialRecord | None:
        if self._interrupted:
            return self._interrupted.pop(0)
        if not self._waiting and not self._exhausted:
            self._waiting = self._propose()
        return self._waiting.pop(0) if self._waiting else None

    def _propose(self) -> list[TrialRecord]:
        """Propose the next configuration, once for each tuning seed."""
        tune = self._sweep.tune
        assert tune is not None
        trials = self._ledger.of_arm(self.name, "tune")
        slot = max((t.slot for t in trials), default=-1) + 1
        if slot >= tune.num_configurations:
            self._exhausted = True
            return []
        values = propose(tune, self._sweep.seed, slot, trials, self._is_known)
        if values is None:
            self._exhausted = True
            return []
        return [self._trial("tune", slot, index, values) for index in range(tune.seeds)]

    def _is_known(self, values: Values) -> bool:
        """Tell whether a configuration was handed out before, however its values are written."""
        return self._trial("tune", 0, 0, values).trial_id in self._ledger.trials

    def _missing_seeds(self) -> list[TrialRecord]:
        """List the tuning seeds that a driver died before handing out."""
        known = self._ledger.of_arm(self.name, "tune")
        configurations = {t.slot: dict(t.values) for t in known}
        num_seeds = self._sweep.tune.seeds if self._sweep.tune else 0
        return [
            trial
            for slot, values in configurations.items()
            for index in range(num_seeds)
            if (trial := self._trial("tune", slot, index, values)).trial_id
            not in self._ledger.trials
        ]

    def _next_finalist(self) -> TrialRecord | None:
        if self._finalists is None:
            self._finalists = iter(self._all_finalists())
        trial = next(self._finalists, None)
        self.done = trial is None
        return trial

    def _all_finalists(self) -> list[TrialRecord]:
        """List the finalists that are not yet trained to the end."""
        values: Values = {}
        if self._sweep.tune is not None:
            tune = self._sweep.tune
            winner = select_winner(
                self._ledger.of_arm(self.name, "tune"), tune.metric, tune.direction, tune.seeds
            )
            if winner is None:
                return []
            values = dict(winner.values)
        wanted = [self._trial("final", i, i, values) for i in range(self._sweep.final.seeds)]
        known = {t.trial_id: self._renewed(t) for t in self._ledger.of_arm(self.name, "final")}
        current = [known.get(t.trial_id, t) for t in wanted]
        return [t for t in current if t.status in ("running", "failed", "superseded")]

    def _trial(self, stage: Stage, slot: int, seed_index: int, values: Values) -> TrialRecord:
        settings = self._arm.settings.with_values(values)
        seed = trial_seed(self._sweep.seed, stage, seed_index)
        return TrialRecord(
            trial_id=trial_id(settings, seed, self._fingerprints(settings)),
            stage=stage,
            arm=self.name,
            labels=dict(self._arm.labels),
            slot=slot,
            seed=seed,
            seed_index=seed_index,
            values=values,
            settings=settings.model_dump(mode="json"),
        )
