"""Run a sweep to its end, or go on with it where it stopped."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console

from fpt_ray.config import Sweep, TrialSettings
from fpt_ray.data.deliver import deliver
from fpt_ray.orchestrate.checks import check_arms, variants
from fpt_ray.orchestrate.cluster import connected, device_kind
from fpt_ray.orchestrate.engines import Engines, make_plan
from fpt_ray.orchestrate.environment import record_start
from fpt_ray.orchestrate.progress import Progress, shard_bar
from fpt_ray.orchestrate.resolved import check_edits, resolve
from fpt_ray.orchestrate.tuning import Work, fit
from fpt_ray.records import SweepRecord
from fpt_ray.search import ArmSearch, Ledger
from fpt_ray.storage import Lease, RunDirectory
from fpt_ray.training import fingerprints

REFRESH_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """Where and how to run, none of which changes a result.

    Attributes:
        file: the sweep file's name, for messages.
        text: the sweep file's bytes, kept as given.
        address: of the Ray cluster; see `connected`.
        debug: show Ray's own messages.
        console: where progress goes.
        on_refresh: called with the sweep's record now and then, to refresh what others look at.
    """

    file: str
    text: bytes
    console: Console
    address: str | None = None
    debug: bool = False
    on_refresh: Callable[[SweepRecord], None] = lambda _: None


def run_sweep(sweep: Sweep, run: RunDirectory, options: Options) -> SweepRecord:
    """Train everything of a sweep that its run directory does not hold yet.

    Raises:
        SweepFileError: an arm cannot be built, or the file contradicts the run directory.
        RunDirectoryError: the directory is in use or cannot be written.
        FptRayError: no Ray cluster can be used.
    """
    say = options.console.print
    say(f"checking {len(sweep.arms)} arms")
    check_arms(sweep, options.file)
    with Lease(run, on_wait=say) as lease:
        resolved = resolve(sweep)
        former = run.read_json(RunDirectory.RESOLVED)
        # Until a trial was handed out, there is nothing that an edit could contradict.
        if former is not None and run.directories(RunDirectory.TRIALS):
            check_edits(former, resolved, run, options.file)
        run.sweep_temporaries()
        ledger = Ledger(run, lease, resolved)
        if any(search.next_trial() for search in _searches(sweep, ledger)):
            say("starting Ray")
            _train(sweep, run, ledger, options)
        else:
            _write_sweep(run, options.text, resolved)
            say(f"{run.uri} is complete: nothing is left to train")
        return ledger.record()


def _searches(sweep: Sweep, ledger: Ledger) -> list[ArmSearch]:
    return [ArmSearch(sweep, arm, fingerprints, ledger) for arm in sweep.arms]


def _write_sweep(run: RunDirectory, text: bytes, resolved: Mapping[str, Any]) -> None:
    run.write_bytes(RunDirectory.SWEEP_FILE, text)
    run.write_json(RunDirectory.RESOLVED, resolved)


def _train(sweep: Sweep, run: RunDirectory, ledger: Ledger, options: Options) -> None:
    """Let Ray Tune train what the searches hand out."""
    say = options.console.print
    with connected(options.address, options.debug, spare_cpu=_streams(sweep)):
        delivery = deliver(_read_by_trials(sweep), say, partial(shard_bar, options.console))
        kind = device_kind(sweep.resources, delivery.streams)
        _write_sweep(run, options.text, ledger.resolved)
        record_start(run)
        say(f"training on {kind}; results in {run.uri}")
        done_before = sum(t.steps for t in ledger.trials.values())
        with (
            Engines(make_plan(sweep, run, delivery, kind), say) as engines,
            Progress(options.console, done_before) as progress,
            tempfile.TemporaryDirectory(prefix="fpt_ray_") as scratch,
        ):
            work = Work(sweep, run, ledger, _searches(sweep, ledger), engines)
            fit(work, _watcher(work, progress, options), scratch)
            progress.show(ledger.record(), engines.describe())


def _streams(sweep: Sweep) -> bool:
    return any(arm.settings.data.mode == "streaming" for arm in sweep.arms)


def _read_by_trials(sweep: Sweep) -> Iterator[TrialSettings]:
    for arm in sweep.arms:
        yield arm.settings
        yield from variants(sweep, arm.settings)


def _watcher(work: Work, progress: Progress, options: Options) -> Callable[[], None]:
    """Make a function that is cheap to call often, and shows and refreshes when it is time to."""
    refreshed_at = time.monotonic()

    def watch() -> None:
        nonlocal refreshed_at
        work.engines.poll()
        is_stale = time.monotonic() - refreshed_at >= REFRESH_EVERY_S
        if not progress.due() and not is_stale:
            return
        record = work.ledger.record()
        progress.show(record, work.engines.describe())
        if is_stale:
            options.on_refresh(record)
            refreshed_at = time.monotonic()

    return watch
