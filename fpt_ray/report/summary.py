"""``summary.md``: the finding, the tables behind it, and what a reader must know to trust them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fpt_ray.records import SweepRecord, TrialRecord
from fpt_ray.report.attention import AttentionFigure, attention_section
from fpt_ray.report.fairness import check_fairness, fairness_section
from fpt_ray.report.headline import headline
from fpt_ray.report.published import beside_published, published_section
from fpt_ray.report.reproduction import reproduction
from fpt_ray.report.results import LOST, ArmResult, Block, SweepResult
from fpt_ray.report.search_space import format_values
from fpt_ray.report.wording import (
    ABSENT,
    code,
    convergence_steps,
    difference_to_reference,
    estimate,
    markdown_table,
    percent,
    plural,
    probability,
    seeds_done,
)

_FINAL_HEADER = (
    *("arm", "chosen", "seeds", "test accuracy, % [95 %]", "s.d., points"),
    *("difference, points [95 %]", "Holm p", "correlation", "trained parameters"),
    *("finished / stopped / diverged / failed", "training, s"),
)
_SEARCH_HEADER = (
    *(
        "arm",
        "trials",
        "full length",
        "chosen",
        "validation accuracy, %",
        "at the edge of its range",
    ),
)
_CONVERGENCE_HEADER = (
    *("arm", "steps to convergence, mean (range)", "finalists"),
    "of them best at the last evaluation",
)
_COVERAGE = (
    "Intervals are 95 % t intervals over final seeds; where all seeds agree exactly, a Wilson "
    "interval from the size of the test split; from 20 seeds on a BCa bootstrap is added. They "
    "cover the randomness of training (initial weights, batches, dropout), given one test set, "
    "one split of the data and the selected configuration. They do not cover other test sets, "
    "nor the luck of the search. A t interval may pass 100 %. Differences are paired on common "
    "seeds and taken to the reference arm only; p values are of the paired t test, with Holm's "
    "correction over the arms of a task. A seed that diverged or failed takes the arm's mean "
    "and comparison away."
)


def summarize_sweep(
    record: SweepRecord,
    result: SweepResult,
    figures: Sequence[str],
    environment: Mapping[str, Any] | None,
    attention: Sequence[AttentionFigure] = (),
) -> str:
    """Write the whole summary as Markdown.

    Args:
        record: the sweep, begun or finished.
        result: its numbers.
        figures: the stems of the figures that were drawn, below ``figures/``.
        environment: ``environment.json``, or None where there is none.
        attention: the attention maps that were drawn, which are none unless asked for.
    """
    published = beside_published(record, result)
    sections = [
        f"# {record.name}",
        *(_sentence(text) for text in headline(result)),
        _unfinished(result),
        "## Result",
        _final_tables(result),
        _titled("Published beside ours", published_section(published, result.rows)),
        "## Steps to convergence",
        _convergence(record, result),
        "## Search",
        _search(result),
        "## Fairness checks",
        fairness_section(check_fairness(record, result), result),
        "## Figures",
        _figures(figures, result),
        _titled("Attention maps", attention_section(attention)),
        "## Cost and use of the test split",
        _cost(record, result),
        "## What the intervals cover",
        _COVERAGE,
        "## Trials that diverged or failed",
        _troubles(record),
        "## Reproduction",
        reproduction(record, environment),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _titled(title: str, text: str) -> str:
    """Put a title over a section that not every report has."""
    return f"## {title}\n\n{text}" if text else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _unfinished(result: SweepResult) -> str:
    return "\n".join(f"- left to do: {each}" for each in result.missing)


def _final_tables(result: SweepResult) -> str:
    parts = []
    for block in result.blocks:
        parts += [f"### {block.task}"] if len(result.blocks) > 1 else [f"Task: {block.task}."]
        parts.append(markdown_table(_FINAL_HEADER, [_final_row(row) for row in block.arms]))
        parts += _skipped(block)
    if len(result.blocks) > 1:
        parts.append("Arms with different tasks are not compared.")
    return "\n\n".join(parts)


def _skipped(block: Block) -> list[str]:
    """Tell how much of the test split was too long to be read; arms of a block share the split."""
    row = max(block.arms, key=lambda row: row.test_skipped)
    if not row.test_skipped:
        return []
    return [
        f"{row.test_skipped:,} of {row.test_size:,} test sequences were longer than the task's "
        "max_length, were not read and count as wrong."
    ]


def _final_row(row: ArmResult) -> list[str]:
    difference = row.difference
    correlation = difference.correlation if difference is not None else None
    counts = [str(row.statuses.get(status, 0)) for status in ("finished", "stopped", *LOST)]
    return [
        f"{code(row.arm)} (reference)" if row.is_reference else code(row.arm),
        format_values(row.values) or "as configured",
        seeds_done(row.statistics),
        estimate(row.statistics),
        percent(row.statistics.std),
        difference_to_reference(difference),
        probability(difference.p_holm if difference is not None else None),
        ABSENT if correlation is None else f"{correlation:.2f}",
        ABSENT if row.trained_parameters is None else f"{row.trained_parameters:,}",
        " / ".join(counts),
        f"{row.train_s:,.1f}",
    ]


def _convergence(record: SweepRecord, result: SweepResult) -> str:
    """Write the paper's table 6 of this sweep, with its resolution."""
    rows = [_convergence_row(row) for row in result.rows if row.convergence is not None]
    if not rows:
        return "No finalist has finished yet."
    trainings = [arm.settings.get("training", {}) for arm in record.arms]
    every = next((each["eval_every"] for each in trainings if "eval_every" in each), None)
    resolution = f" Validation is evaluated every {plural(every, 'step')}," if every else ""
    return (
        f"{markdown_table(_CONVERGENCE_HEADER, rows)}\n\n"
        "Steps of a finalist to its first evaluation within one percentage point of its best "
        "validation accuracy."
        + (f"{resolution} so these counts are no finer." if every else "")
        + " A finalist that is best at its last evaluation may not have converged."
    )


def _convergence_row(row: ArmResult) -> list[str]:
    convergence = row.convergence
    assert convergence is not None
    return [
        code(row.arm),
        convergence_steps(convergence),
        str(len(convergence.steps)),
        str(convergence.num_still_rising),
    ]


def _search(result: SweepResult) -> str:
    if not result.space:
        return "Nothing was tuned: each arm went straight to its final seeds as configured."
    table = markdown_table(_SEARCH_HEADER, [_search_row(row) for row in result.rows])
    if not any(row.search and row.search.edges for row in result.rows):
        return table
    return f"{table}\n\nA best value at the edge of its range may be beaten by one beyond it."


def _search_row(row: ArmResult) -> list[str]:
    search = row.search
    assert search is not None
    edges = ", ".join(f"{key.rsplit('.', 1)[-1]}: {edge}" for key, edge in search.edges.items())
    return [
        code(row.arm),
        f"{search.num_trials} of {search.num_planned}",
        str(search.num_full_length),
        format_values(row.values) or "none yet",
        percent(search.best_accuracy),
        edges or ("no" if row.values else ABSENT),
    ]


def _figures(figures: Sequence[str], result: SweepResult) -> str:
    captions = {
        "search": "Validation accuracy of every tuning trial",
        "curves": "Learning curves of every trial, stopped ones dashed",
    }
    parts = [f"![{captions[name]}](figures/{name}.png)" for name in figures]
    if not result.space:
        parts.append("There is no figure of the search, because this sweep tunes nothing.")
    return "\n\n".join(parts)


def _cost(record: SweepRecord, result: SweepResult) -> str:
    steps, train_s = sum(r.steps for r in result.rows), sum(r.train_s for r in result.rows)
    reads = sum(row.tests_read for row in result.rows)
    superseded = [trial for trial in record.trials if trial.status == "superseded"]
    again = reads - sum(trial.tests_read > 0 for trial in record.trials)
    how = (
        f"{again} of them again, by finalists that went on after max_steps was raised"
        if again
        else "once by each finalist that ended"
    )
    text = (
        f"{plural(len(record.trials), 'trial')}, {plural(steps, 'training step')}, "
        f"{train_s:,.1f} s of training summed over all trials. The test split was read "
        f"{plural(reads, 'time')}, {how}."
    )
    if not superseded:
        return text
    superseded_reads = sum(trial.tests_read for trial in superseded)
    return (
        f"{text} {plural(superseded_reads, 'time')} by {plural(len(superseded), 'finalist')} "
        "now superseded, because the arm got a better configuration since."
    )


def _troubles(record: SweepRecord) -> str:
    lost = [trial for trial in record.trials if trial.status in LOST]
    if not lost:
        return "None."
    header = ["trial", "arm", "stage", "values", "seed", "status", "step", "reason"]
    return markdown_table(header, [_trouble_row(trial) for trial in lost])


def _trouble_row(trial: TrialRecord) -> list[str]:
    return [
        code(trial.trial_id),
        code(trial.arm),
        trial.stage,
        format_values(trial.values) or "as configured",
        str(trial.seed),
        trial.status,
        str(trial.steps),
        trial.reason or "not recorded",
    ]
