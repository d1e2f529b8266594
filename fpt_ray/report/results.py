"""One row per arm, from the record of a run directory: searched, chosen, tested, how sure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fpt_ray.records import SweepRecord, TrialRecord
from fpt_ray.report import search_space
from fpt_ray.report.arm_settings import task_title
from fpt_ray.report.convergence import Convergence, measure_convergence
from fpt_ray.report.statistics import (
    ArmStatistics,
    PairedDifference,
    holm,
    paired_difference,
    summarize,
)

LOST = ("diverged", "failed")


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What the search of one arm did.

    ``edges`` maps a tuned key to the edge of its range that the chosen value lies at.
    """

    num_trials: int
    num_planned: int
    num_full_length: int
    best_accuracy: float | None
    edges: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One row of the final table; accuracies are shares in [0, 1], keyed by seed.

    ``convergence`` is None before a finalist has finished. ``test_size`` counts the sequences of
    the test split, of which ``test_skipped`` were not read.
    """

    arm: str
    is_reference: bool
    values: Mapping[str, Any]
    accuracies: Mapping[int, float]
    statistics: ArmStatistics
    difference: PairedDifference | None
    trained_parameters: int | None
    statuses: Mapping[str, int]
    steps: int
    train_s: float
    tests_read: int
    search: SearchResult | None
    test_size: int = 0
    test_skipped: int = 0
    convergence: Convergence | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """The arms of one task; arms of different tasks are never compared.

    ``task`` is its name with the parameters that are not default, ``task_name`` the name alone.
    """

    task: str
    task_name: str
    arms: tuple[ArmResult, ...]


@dataclass(frozen=True, slots=True)
class SweepResult:
    """Everything that the report prints, computed once."""

    name: str
    reference: str
    num_seeds: int
    space: Mapping[str, Any]
    blocks: tuple[Block, ...]
    missing: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> tuple[ArmResult, ...]:
        """All arms, block by block."""
        return tuple(row for block in self.blocks for row in block.arms)

    @property
    def complete(self) -> bool:
        """Whether nothing of the sweep is left to train."""
        return not self.missing


def collect(record: SweepRecord) -> SweepResult:
    """Compute every arm's row, and the comparisons inside each block."""
    by_task: dict[tuple[str, str], list[ArmResult]] = {}
    for arm in record.arms:
        task = task_title(arm.settings), str(arm.settings["task"]["name"])
        by_task.setdefault(task, []).append(_arm_result(record, arm.name))
    blocks = tuple(Block(*task, _compare(arms)) for task, arms in by_task.items())
    return SweepResult(
        name=record.name,
        reference=record.reference,
        num_seeds=len(record.final_seeds),
        space=record.space,
        blocks=blocks,
        missing=tuple(filter(None, (_missing(record, arm.name) for arm in record.arms))),
    )


def _arm_result(record: SweepRecord, arm: str) -> ArmResult:
    trials = [trial for trial in record.trials if trial.arm == arm]
    finalists, winner = record.current_finalists(arm), record.winner(arm)
    accuracies = {
        trial.seed: trial.test_accuracy
        for trial in finalists
        if trial.test_accuracy is not None and trial.status == "finished"
    }
    lost = sum(trial.status in LOST for trial in finalists)
    read = max((trial.test_examples or 0 for trial in finalists), default=0)
    skipped = max((trial.test_skipped for trial in finalists), default=0)
    test_size = read + skipped
    return ArmResult(
        arm=arm,
        is_reference=arm == record.reference,
        values=winner.values if winner is not None else {},
        accuracies=accuracies,
        statistics=summarize(list(accuracies.values()), len(record.final_seeds), lost, test_size),
        difference=None,
        trained_parameters=_trained_parameters([*finalists, *trials]),
        statuses=dict(Counter(trial.status for trial in trials)),
        steps=sum(trial.steps for trial in trials),
        train_s=sum(trial.train_s for trial in trials),
        tests_read=sum(trial.tests_read for trial in trials),
        search=_search_result(record, arm, winner) if record.space else None,
        test_size=test_size,
        test_skipped=skipped,
        convergence=measure_convergence(finalists),
    )


def _trained_parameters(trials: Sequence[TrialRecord]) -> int | None:
    """Read the count off the first trial that has one; a tuned setting may change it."""
    return next((trial.trained_parameters for trial in trials if trial.trained_parameters), None)


def _search_result(record: SweepRecord, arm: str, winner: TrialRecord | None) -> SearchResult:
    trials = record.of_arm(arm, "tune")
    values = winner.values if winner is not None else {}
    best = winner.best if winner is not None else None
    edges = {
        key: found
        for key, value in values.items()
        if key in record.space and (found := search_space.edge(record.space[key], value))
    }
    return SearchResult(
        num_trials=len(trials),
        num_planned=record.num_trials,
        num_full_length=sum(trial.status == "finished" for trial in trials),
        best_accuracy=best.validation_accuracy if best is not None else None,
        edges=edges,
    )


def _compare(arms: Sequence[ArmResult]) -> tuple[ArmResult, ...]:
    """Add each arm's difference to the reference; a block without the reference has none."""
    reference = next((row for row in arms if row.is_reference), None)
    if reference is None:
        return tuple(arms)
    differences = {row.arm: _difference(row, reference) for row in arms if row is not reference}
    tested = {arm: each.p for arm, each in differences.items() if each and each.p is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    return tuple(
        replace(row, difference=replace(difference, p_holm=corrected.get(row.arm)))
        if (difference := differences.get(row.arm)) is not None
        else row
        for row in arms
    )


def _difference(row: ArmResult, reference: ArmResult) -> PairedDifference | None:
    """Compare on common seeds, unless either arm lost one: what is left would be its survivors."""
    if row.statistics.num_lost or reference.statistics.num_lost:
        return None
    return paired_difference(row.accuracies, reference.accuracies)


def _missing(record: SweepRecord, arm: str) -> str | None:
    """Say what of an arm is left to train; None when nothing is."""
    tuning, finalists = record.of_arm(arm, "tune"), record.current_finalists(arm)
    running = sum(trial.status == "running" for trial in (*tuning, *finalists))
    if running:
        return f"{arm}: {running} trials have not ended"
    if record.space and len(tuning) < record.num_trials:
        return f"{arm}: {len(tuning)} of {record.num_trials} tuning trials"
    hopeless = record.space and record.winner(arm) is None
    if len(finalists) < len(record.final_seeds) and not hopeless:
        return f"{arm}: {len(finalists)} of {len(record.final_seeds)} final seeds"
    return None
