"""How the report writes: accuracies in percent, differences in points, Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fpt_ray.report.convergence import Convergence
from fpt_ray.report.statistics import ArmStatistics, Interval, PairedDifference

ABSENT = "–"  # noqa: RUF001 - an en dash is what a table's empty cell holds in print


def percent(share: float | None) -> str:
    """Write a share in [0, 1] as percent without its sign."""
    return ABSENT if share is None else f"{100 * share:.2f}"


def points(difference: float) -> str:
    """Write a difference of shares in percentage points."""
    return f"{100 * difference:+.2f}"


def bounds(interval: Interval, signed: bool = False) -> str:
    """Write an interval of shares in percent or, signed, in points."""
    write = points if signed else percent
    return f"[{write(interval.low)}, {write(interval.high)}]"


def estimate(statistics: ArmStatistics) -> str:
    """Write an arm's mean test accuracy with its interval, and its kind unless it is t."""
    text = percent(statistics.mean)
    if statistics.interval is not None:
        kind = "" if statistics.interval.method == "t" else f" ({statistics.interval.method})"
        text += f" {bounds(statistics.interval)}{kind}"
    if statistics.bootstrap is not None:
        text += f", bootstrap {bounds(statistics.bootstrap)}"
    return text


def seeds_done(statistics: ArmStatistics) -> str:
    """Write n of N, and how many seeds were lost."""
    text = f"{statistics.num_done} of {statistics.num_planned}"
    return f"{text}, {statistics.num_lost} lost" if statistics.num_lost else text


def difference_to_reference(difference: PairedDifference | None) -> str:
    """Write a paired difference in points with its interval."""
    if difference is None:
        return ABSENT
    interval = f" {bounds(difference.interval, signed=True)}" if difference.interval else ""
    return points(difference.mean) + interval


def probability(p: float | None) -> str:
    """Write a p value to three places."""
    if p is None:
        return ABSENT
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def convergence_steps(convergence: Convergence | None) -> str:
    """Write the mean steps to convergence, and their range where they differ."""
    if convergence is None:
        return ABSENT
    low, high = convergence.low, convergence.high
    spread = "" if low == high else f" ({low:,} to {high:,})"
    return f"{convergence.mean:,.0f}{spread}"


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: ``1 seed``, ``3 seeds``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def code(text: str) -> str:
    """Set a name in code style; backticks in it would end the style."""
    return f"`{text.replace('`', chr(39))}`"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table; bars and line breaks in cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\r", " ").replace("\n", " ")
