"""The one place where Ray Tune is started."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial

from fpt_ray.config import Sweep
from fpt_ray.orchestrate.cluster import Slots
from fpt_ray.search import ArmScheduler, ArmSearch, ArmSearcher, Ledger
from fpt_ray.storage import RunDirectory
from fpt_ray.trial import TrialTrainable


class _Watcher(tune.Callback):
    """Tells the ledger of failed trials, and the watcher of time that passes."""

    def __init__(self, ledger: Ledger, watch: Callable[[], None]) -> None:
        self._ledger = ledger
        self._watch = watch

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        self._watch()

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        reason = describe_failure(trial.get_pickled_error())
        self._ledger.fail(trial.config["trial"]["trial_id"], reason, trial.num_failures)


def fit(
    sweep: Sweep,
    run: RunDirectory,
    ledger: Ledger,
    searches: Sequence[ArmSearch],
    slots: Slots,
    watch: Callable[[], None],
    scratch: str,
) -> None:
    """Train every trial that the searches hand out.

    Args:
        sweep: the sweep.
        run: its run directory.
        ledger: what is known of it, and what becomes known.
        searches: of the arms.
        slots: how trials share the devices.
        watch: called often, from this thread.
        scratch: a directory for what Tune must write somewhere and nobody reads.
    """
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots.num_slots)
    shared = {
        "run": run.uri,
        "device": slots.device,
        "metric": sweep.tune.metric if sweep.tune else "validation_accuracy",
        "num_threads": slots.num_threads,
    }
    tuner = tune.Tuner(
        tune.with_resources(TrialTrainable, slots.resources),
        tune_config=tune.TuneConfig(
            num_samples=sweep.num_tune_trials + sweep.num_final_trials,
            # One trial more than run waits, so that a worker that ends its trial finds the next at once.
            search_alg=ArmSearcher(searches, ledger, slots.num_slots + 1, shared),
            scheduler=ArmScheduler(sweep, ledger),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=sweep.name,
            storage_path=scratch,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=sweep.failures.max_failures),
            callbacks=[_Watcher(ledger, watch)],
        ),
    )
    # Tune prints to stdout, which belongs to the results.
    with contextlib.redirect_stdout(sys.stderr):
        tuner.fit()


def describe_failure(error: BaseException | None) -> str:
    """Say in one line why a trial failed: the exception that its own code raised, or what befell its process."""
    if error is None:
        return "unknown: Ray gave no reason"
    cause = error.cause if isinstance(error, RayTaskError) and error.cause is not None else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {' '.join(lines)[:500]}"
