"""Progress while a sweep runs: one line an arm, redrawn on a terminal and plain elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from fpt_ray.records import Status, SweepRecord, TrialRecord
from fpt_ray.records.sweep import configuration_key

PLAIN_EVERY_S = 10.0
REDRAW_EVERY_S = 0.5


@contextlib.contextmanager
def shard_bar(console: Console, total: int) -> Iterator[Callable[[object], None]]:
    """Show how many shards of a data set are written; plain lines where there is no terminal.

    Args:
        console: where to.
        total: shards to write.

    Yields:
        A function to be called with each finished shard.
    """
    columns = (TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done, shown_at = 0, time.monotonic()
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("shards", total=total)

        def advance(_: object) -> None:
            nonlocal done, shown_at
            done += 1
            bar.advance(task)
            is_due = done == total or time.monotonic() - shown_at >= PLAIN_EVERY_S
            if not console.is_terminal and is_due:
                shown_at = time.monotonic()
                console.print(f"{done} of {total} shards written")

        yield advance


class Progress:
    """Shows how far a sweep is, on stderr.

    Args:
        console: where to; a terminal gets a block that is redrawn, anything else a plain block
            every ``PLAIN_EVERY_S`` seconds, and only if something changed.
        done_before: steps that were in the log when the driver started, so that the rate counts
            this run's only.
    """

    def __init__(self, console: Console, done_before: int) -> None:
        self._console = console
        self._done_before = done_before
        self._started = time.monotonic()
        self._shown_at = 0.0
        self._shown = ""
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def due(self) -> bool:
        """Tell whether it is time to show something again, so that callers can save the effort."""
        every = REDRAW_EVERY_S if self._live else PLAIN_EVERY_S
        return time.monotonic() - self._shown_at >= every

    def show(self, sweep: SweepRecord, engines: str = "") -> None:
        """Show the sweep as it stands.

        Args:
            sweep: the sweep.
            engines: what trains it, in a few words.
        """
        self._shown_at = time.monotonic()
        arms = [arm_line(sweep, arm.name) for arm in sweep.arms]
        pace = "; ".join(part for part in (self._pace(sweep), engines) if part)
        text = "\n".join([*arms, pace])
        if self._live:
            self._live.update(Text(text), refresh=True)
        elif arms != self._shown.splitlines()[: len(arms)]:
            self._console.print(Text(text))
        self._shown = text

    def _pace(self, sweep: SweepRecord) -> str:
        elapsed = time.monotonic() - self._started
        done = sum(t.steps for t in sweep.trials)
        rate = (done - self._done_before) / elapsed
        left = remaining_steps(sweep)
        if not left:
            return f"{done} steps done"
        if not rate:
            return f"{done} steps done, at most {left} to go"
        eta = _duration(left / rate)
        return f"{done} steps done, at most {left} to go, {rate:.1f} steps/s, at most {eta} left"


def arm_line(sweep: SweepRecord, arm: str) -> str:
    """Describe an arm in one line: its trials by status, and the best so far."""
    width = max(len(a.name) for a in sweep.arms)
    tuned = sweep.of_arm(arm, "tune")
    final = sweep.finalists(arm)
    parts = []
    if sweep.num_trials:
        parts.append(f"tune {_counts(tuned, sweep.num_trials)}")
    if final or not sweep.num_trials:
        parts.append(f"final {_counts(final, len(sweep.final_seeds))}")
    best = _best(sweep, [*tuned, *final])
    return f"{arm:<{width}}  " + "  ".join([*parts, best] if best else parts)


def remaining_steps(sweep: SweepRecord) -> int:
    """Count the steps that are left at most: what a scheduler will stop early is not known yet."""
    running = sum(sweep.max_steps - t.steps for t in sweep.trials if t.status == "running")
    new = sum(
        sweep.num_trials
        - len(sweep.of_arm(a.name, "tune"))
        + len(sweep.final_seeds)
        - len(sweep.finalists(a.name))
        for a in sweep.arms
        if sweep.num_trials == 0 or not _without_winner(sweep, a.name)
    )
    return running + max(0, new) * sweep.max_steps


def _without_winner(sweep: SweepRecord, arm: str) -> bool:
    """Tell whether an arm's search ended with no configuration trained to full length."""
    tuned = sweep.of_arm(arm, "tune")
    ended = len(tuned) >= sweep.num_trials and all(t.status != "running" for t in tuned)
    return ended and sweep.winner(arm) is None


def _counts(trials: Sequence[TrialRecord], total: int) -> str:
    statuses = Counter(t.status for t in trials)
    ended = len(trials) - statuses["running"]
    named: tuple[Status, ...] = ("running", "stopped", "diverged", "failed")
    inside = [f"{statuses[s]} {s}" for s in named if statuses[s]]
    return f"{ended}/{total}" + (f" ({', '.join(inside)})" if inside else "")


def _best(sweep: SweepRecord, trials: Sequence[TrialRecord]) -> str:
    measured = [t for t in trials if t.best is not None]
    if not measured:
        return ""
    metric, direction = sweep.metric, sweep.direction
    best = max(measured, key=lambda t: t.best.value(metric, direction) if t.best else 0.0)
    value = getattr(best.best, metric)
    where = configuration_key(best.values).strip("{}").replace('"', "")
    return f"best {metric} {value:.4f}" + (f" at {where}" if where else "")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
