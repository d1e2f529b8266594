"""What may make a comparison unfair: the fact, what follows from it, and how to mend it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fpt_ray.records import SweepRecord
from fpt_ray.report.headline import FEW_SEEDS
from fpt_ray.report.results import LOST, ArmResult, SweepResult
from fpt_ray.report.search_space import format_value
from fpt_ray.report.wording import bounds, code, plural

_EQUAL = 1e-12


@dataclass(frozen=True, slots=True)
class FairnessFinding:
    """One doubt about a comparison, each part a sentence.

    Attributes:
        check: which of ``CHECKS`` found it.
        arms: the arms that it is about.
        fact: what is the case.
        consequence: what a reader must not conclude.
        mend: what to change and run.
    """

    check: str
    arms: tuple[str, ...]
    fact: str
    consequence: str
    mend: str

    def __str__(self) -> str:
        return f"{self.fact} {self.consequence} {self.mend}"


def check_fairness(record: SweepRecord, result: SweepResult) -> tuple[FairnessFinding, ...]:
    """Look at a sweep with every check, in the order of ``CHECKS``."""
    return tuple(found for check in CHECKS.values() for found in check(record, result))


def _edges(record: SweepRecord, result: SweepResult) -> Iterator[FairnessFinding]:
    for row in result.rows:
        for key, side in (row.search.edges if row.search else {}).items():
            name, value = key.rsplit(".", 1)[-1], format_value(row.values[key])
            beyond = "larger" if side == "upper" else "smaller"
            yield FairnessFinding(
                "edge",
                (row.arm,),
                f"{code(row.arm)}: the best {name}, {value}, lies at the {side} edge of its range.",
                "A better one may lie beyond, so this arm may be worth more than is shown.",
                f"Add {beyond} values to tune.space for {key}{_how_to_widen(record.space[key])}.",
            )


def _how_to_widen(domain: Any) -> str:
    if "grid" in domain:
        return " and run again: only what is new is trained"
    return " and run it under another name: a range or choice cannot grow in place"


def _budgets(record: SweepRecord, result: SweepResult) -> Iterator[FairnessFinding]:
    """Find arms that got other numbers of trials, or of sequences in a step, than the others."""
    mend = "Run the sweep again to its end, so that all arms get the same."
    for noun, counts in _budget_counts(record).items():
        if len(set(counts.values())) > 1:
            fact = f"Arms have unequal budgets: {noun} {_listed(counts)}."
            yield FairnessFinding("budget", tuple(counts), fact, _UNEQUAL[noun], mend)
    for block in result.blocks:
        sizes = _batch_sizes(record, block.arms)
        if len(set(sizes.values())) > 1:
            yield FairnessFinding(
                "budget",
                tuple(sizes),
                f"Arms see unequal numbers of sequences: batch_size {_listed(sizes)}.",
                "Equal steps are then not equal data, and larger batches see more.",
                "Give all arms one batch_size, or say that they differ.",
            )


def _budget_counts(record: SweepRecord) -> dict[str, dict[str, int]]:
    """Count the trials that every arm was given.

    Steps follow from them: all trials have one length, unless they were stopped early, diverged or
    failed, and those that were lost are looked at elsewhere.
    """
    counts: dict[str, dict[str, int]] = {}
    if record.space:
        tuned = {arm.name: record.of_arm(arm.name, "tune") for arm in record.arms}
        ended = {arm: sum(t.status != "running" for t in trials) for arm, trials in tuned.items()}
        counts[_TUNED] = ended
    counts[_TESTED] = {
        arm.name: sum(t.status != "running" for t in record.current_finalists(arm.name))
        for arm in record.arms
    }
    return counts


_TUNED, _TESTED = "tuning trials that ended", "final seeds that ended"
_UNEQUAL = {
    _TUNED: "An arm that got more is favoured: its result is the best of more attempts.",
    _TESTED: "Means and differences of arms that got fewer rest on less.",
}


def _batch_sizes(record: SweepRecord, rows: Sequence[ArmResult]) -> dict[str, int]:
    """List the batch sizes of arms, as configured or as chosen by their search."""
    key, settings = "training.batch_size", {arm.name: arm.settings for arm in record.arms}
    sizes = {
        row.arm: row.values.get(key)
        if key in record.space
        else settings[row.arm].get("training", {}).get("batch_size")
        for row in rows
    }
    return {arm: size for arm, size in sizes.items() if size is not None}


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} ({code(arm)})" for arm, count in counts.items())


def _few_seeds(record: SweepRecord, result: SweepResult) -> Iterator[FairnessFinding]:
    few = [row for row in result.rows if row.statistics.num_done < FEW_SEEDS]
    if not few:
        return
    consequence = (
        "So few observations tell little of the spread: intervals are wide, and may be wrong."
    )
    counts = {row.arm: row.statistics.num_done for row in few}
    if len(few) == len(result.rows) and len(set(counts.values())) == 1:
        fact = f"Every arm rests on {plural(next(iter(counts.values())), 'final seed')}."
    else:
        fact = f"Arms rest on fewer than {FEW_SEEDS} final seeds: {_listed(counts)}."
    mend = "Run the sweep again to its end."
    if result.num_seeds < FEW_SEEDS:
        mend = f"Set final.seeds to {FEW_SEEDS} or more and run again: only new seeds are trained."
    yield FairnessFinding("few_seeds", tuple(counts), fact, consequence, mend)


def _covers_zero(record: SweepRecord, result: SweepResult) -> Iterator[FairnessFinding]:
    """Find comparisons that establish nothing; equal results on all seeds have no interval."""
    for row in result.rows:
        if row.difference is None:
            continue
        interval, pair = row.difference.interval, (row.arm, result.reference)
        consequence = "It is not established which of the two is better, nor that they are equal."
        if interval is not None and interval.covers(0.0):
            yield FairnessFinding(
                "covers_zero",
                pair,
                f"The interval of the difference between {code(row.arm)} and "
                f"{code(result.reference)}, {bounds(interval, signed=True)} points, covers zero.",
                consequence,
                "More final seeds narrow the interval; so does a larger test split.",
            )
        elif (
            interval is None and row.difference.num_pairs > 1 and abs(row.difference.mean) < _EQUAL
        ):
            yield FairnessFinding(
                "covers_zero",
                pair,
                f"{code(row.arm)} and {code(result.reference)} have the same test accuracy on "
                f"each of {plural(row.difference.num_pairs, 'seed')}.",
                consequence,
                "A harder task, or fewer steps, may tell them apart.",
            )


def _test_read_again(record: SweepRecord, result: SweepResult) -> Iterator[FairnessFinding]:
    for row in result.rows:
        trials = [trial for trial in record.trials if trial.arm == row.arm]
        again = sum(max(0, trial.tests_read - 1) for trial in trials)
        old = sum(t.status == "superseded" and t.tests_read > 0 for t in trials)
        if again or old:
            yield FairnessFinding(
                "test_read_again",
                (row.arm,),
                f"{code(row.arm)} has read the test split more than once: {_readings(again, old)}.",
                "Who has seen test results and then changes the sweep, selects on the test split.",
                "Fix every setting, then run the sweep once, from the start, under another name "
                "and seed, and report that.",
            )


def _readings(again: int, old: int) -> str:
    told = [
        f"{plural(again, 'reading')} by finalists that went on after max_steps was raised",
        f"{plural(old, 'finalist')} of a configuration that has been superseded since",
    ]
    return " and ".join(text for text, count in zip(told, (again, old), strict=True) if count)


def _lost_trials(record: SweepRecord, result: SweepResult) -> Iterator[FairnessFinding]:
    for row in result.rows:
        lost = [t for t in record.trials if t.arm == row.arm and t.status in LOST]
        if not lost:
            continue
        counts = Counter((trial.stage, trial.status) for trial in lost)
        told = ", ".join(
            f"{plural(n, f'{_STAGES[stage]} trial')} {status}"
            for (stage, status), n in counts.items()
        )
        yield FairnessFinding(
            "lost_trials",
            (row.arm,),
            f"{code(row.arm)}: {told}.",
            _what_was_lost(row, {trial.stage for trial in lost}),
            _how_to_keep({trial.status for trial in lost}),
        )


_STAGES = {"tune": "tuning", "final": "final"}


def _what_was_lost(row: ArmResult, stages: set[str]) -> str:
    if "final" in stages:
        return (
            f"{code(row.arm)} has no mean and no comparison, because a mean over the survivors "
            "would hide the seeds that went wrong."
        )
    return "Its best configuration was chosen among fewer candidates than planned."


def _how_to_keep(statuses: set[str]) -> str:
    told = {
        "failed": "Look at the reasons below, remove the cause and run again: failed trials are "
        "tried anew.",
        "diverged": "Divergence is a result of the setting: search smaller learning rates, or clip "
        "gradients harder.",
    }
    return " ".join(text for status, text in told.items() if status in statuses)


CHECKS: dict[str, Callable[[SweepRecord, SweepResult], Iterator[FairnessFinding]]] = {
    "edge": _edges,
    "budget": _budgets,
    "few_seeds": _few_seeds,
    "covers_zero": _covers_zero,
    "test_read_again": _test_read_again,
    "lost_trials": _lost_trials,
}
"""What is looked at, in this order."""

_ALL_WELL = {
    "edge": "no chosen value lies at the edge of its range",
    "budget": "all arms have the same budget",
    "few_seeds": f"every arm has {FEW_SEEDS} final seeds or more",
    "covers_zero": "no comparison's interval covers zero, and no two arms are equal on all seeds",
    "test_read_again": "no trial read the test split twice, and none was superseded after it",
    "lost_trials": "no trial failed or diverged",
}
_NOTHING_TO_LOOK_AT = {
    "edge": "nothing was tuned, or nothing is chosen yet, so no value lies at an edge",
    "budget": "there is one arm, so there are no budgets to compare",
    "covers_zero": "there is no comparison yet whose interval could cover zero",
}


def fairness_section(findings: Sequence[FairnessFinding], result: SweepResult) -> str:
    """Write the section: one sentence group a finding, and what the other checks found."""
    passed = [name for name in CHECKS if not any(each.check == name for each in findings)]
    told = "; ".join(_passed(name, result) for name in passed)
    if not findings:
        return f"All six were looked at, and none applies: {told}."
    listed = "\n".join(f"- {finding}" for finding in findings)
    return f"{listed}\n\nAlso looked at: {told}." if passed else listed


def _passed(check: str, result: SweepResult) -> str:
    """Say what a check found that raised no doubt, or that it had nothing to look at."""
    has_matter = {
        "edge": bool(result.space) and any(row.values for row in result.rows),
        "budget": len(result.rows) > 1,
        "covers_zero": any(row.difference is not None for row in result.rows),
    }
    return (_ALL_WELL if has_matter.get(check, True) else _NOTHING_TO_LOOK_AT)[check]
