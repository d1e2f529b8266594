"""The report's first sentences: what the sweep found, and no more than it found."""

from __future__ import annotations

from collections.abc import Sequence

from fpt_ray.report.results import ArmResult, Block, SweepResult
from fpt_ray.report.search_space import LEARNING_RATE
from fpt_ray.report.statistics import Interval, PairedDifference
from fpt_ray.report.wording import bounds, code, estimate, plural, points, probability

SIGNIFICANCE = 0.05
FEW_SEEDS = 5


def headline(result: SweepResult) -> list[str]:
    """Write the finding of each block in one or a few sentences, the reference's block first."""
    found = [_finding(block, result) for block in result.blocks]
    if len(found) > 1:
        found = [f"{block.task}: {text}" for block, text in zip(result.blocks, found, strict=True)]
    if result.complete:
        return found
    return ["This sweep is unfinished, so every number below is provisional.", *found]


def _finding(block: Block, result: SweepResult) -> str:
    compared = [(row, row.difference) for row in block.arms if row.difference is not None]
    if not compared:
        return _without_comparison(block, result)
    row, difference = max(compared, key=lambda pair: abs(pair[1].mean))
    sentence = _comparison(row.arm, result.reference, difference, len(compared))
    text = f"{sentence}, {_tuned(result)}."
    if len(compared) > 1:
        text = f"The largest of {len(compared)} differences: {text} {_count_significant(compared)}"
    if difference.interval is not None and difference.num_pairs < FEW_SEEDS:
        text += f" With {difference.num_pairs} seeds these intervals rest on few observations."
    return text + _not_compared(block)


def _comparison(arm: str, reference: str, difference: PairedDifference, num_tests: int) -> str:
    """Compare two arms, the better one first; the verdict follows the corrected p."""
    mean, interval, p = difference.mean, difference.interval, difference.p_holm
    better, worse = (arm, reference) if mean > 0 else (reference, arm)
    size, seeds = points(abs(mean)).lstrip("+"), plural(difference.num_pairs, "seed")
    pair = f"{code(better)} and {code(worse)}"
    if difference.num_pairs == 1:
        return (
            f"{code(better)} is {size} points above {code(worse)} on one seed, which gives no "
            "interval and may be the seed's luck"
        )
    if interval is None or p is None:
        same = "reach the same test accuracy" if abs(mean) < 1e-12 else f"differ by {size} points"
        return f"{pair} {same} on each of {seeds}; without spread there is nothing to test"
    shown = bounds(interval if mean > 0 else _mirrored(interval), signed=True)
    if p < SIGNIFICANCE:
        return f"{code(better)} beats {code(worse)} by {size} points {shown} over {seeds}"
    return (
        f"no difference between {pair} is established: {code(better)} is {size} points above, "
        f"{shown} over {seeds}, {_doubt(interval, p, num_tests)}"
    )


def _doubt(interval: Interval, p: float, num_tests: int) -> str:
    if interval.covers(0.0):
        return "an interval that covers zero"
    return f"but p = {probability(p)} after Holm's correction for {num_tests} comparisons"


def _mirrored(interval: Interval) -> Interval:
    return Interval(-interval.high, -interval.low, interval.method)


def _tuned(result: SweepResult) -> str:
    if not result.space:
        return "each arm as configured"
    if set(result.space) == {LEARNING_RATE}:
        return "each arm at its own best learning rate"
    names = " and ".join(key.rsplit(".", 1)[-1] for key in result.space)
    return f"each arm at its own best {names}"


def _count_significant(compared: Sequence[tuple[ArmResult, PairedDifference]]) -> str:
    num = sum(d.p_holm is not None and d.p_holm < SIGNIFICANCE for _, d in compared)
    return f"{num} of {len(compared)} arms differ from the reference at Holm-corrected p < 0.05."


def _without_comparison(block: Block, result: SweepResult) -> str:
    tested = [row for row in block.arms if row.statistics.num_done]
    if not tested:
        return f"No arm has been tested yet.{_not_compared(block)}"
    means = "; ".join(
        f"{code(row.arm)} reaches {estimate(row.statistics)} % test accuracy over "
        f"{plural(row.statistics.num_done, 'seed')}"
        for row in tested
        if row.statistics.mean is not None
    )
    text = f"{means}, {_tuned(result)}." if means else "No arm has a mean."
    if len(block.arms) > 1 and not any(row.is_reference for row in block.arms):
        text += " Arms of this task are not compared: the reference has another."
    return text + _not_compared(block)


def _not_compared(block: Block) -> str:
    lost = [row for row in block.arms if row.statistics.num_lost]
    if not lost:
        return ""
    told = ", ".join(
        f"{code(row.arm)} ({row.statistics.num_lost} of {row.statistics.num_planned})"
        for row in lost
    )
    return f" Seeds diverged or failed in {told}: no mean over the survivors, no comparison."
