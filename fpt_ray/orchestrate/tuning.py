"""The one place where Ray Tune is started."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.exceptions import RayTaskError
from ray.tune import TuneError
from ray.tune.experiment import Trial

from fpt_ray.config import Sweep
from fpt_ray.errors import FptRayError
from fpt_ray.orchestrate.engines import Engines
from fpt_ray.search import ArmScheduler, ArmSearch, ArmSearcher, Ledger
from fpt_ray.storage import RunDirectory
from fpt_ray.trial import TrialTrainable

MIN_STARTING = 4


class _Watcher(tune.Callback):
    """Tells the ledger of failed trials, and the watcher of time that passes."""

    def __init__(self, ledger: Ledger, watch: Callable[[], None]) -> None:
        self._ledger = ledger
        self._watch = watch

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        self._watch()

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._ledger.fail(_our_id(trial), describe_failure(_error_of(trial)), trial.num_failures)


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be trained, and where it stands.

    Attributes:
        sweep: the sweep.
        run: its run directory.
        ledger: what is known of its trials, and what becomes known.
        searches: of the arms; they hand the trials out.
        engines: what trains the trials.
    """

    sweep: Sweep
    run: RunDirectory
    ledger: Ledger
    searches: Sequence[ArmSearch]
    engines: Engines


def fit(work: Work, watch: Callable[[], None], scratch: str) -> None:
    """Train every trial that the searches hand out.

    Args:
        work: the trials.
        watch: called often, from this thread.
        scratch: a directory for what Tune must write somewhere and nobody reads.
    """
    _set_tune_up()
    tuner = tune.Tuner(
        TrialTrainable,
        tune_config=_tune_config(work),
        run_config=tune.RunConfig(
            name=work.sweep.name,
            storage_path=scratch,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=work.sweep.failures.max_failures),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=0, checkpoint_at_end=False
            ),
            callbacks=[_Watcher(work.ledger, watch)],
        ),
    )
    # Tune prints to stdout, which belongs to the results.
    try:
        with contextlib.redirect_stdout(sys.stderr):
            tuner.fit()
    except TuneError as error:
        ours = _ours_behind(error)
        if ours is None:
            raise
        raise ours from error


def _ours_behind(error: BaseException) -> FptRayError | None:
    """Find the error of ours that Tune has wrapped: a lost lease, a storage that is full."""
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, FptRayError):
        behind = behind.__cause__ or behind.__context__
    return behind


def _tune_config(work: Work) -> tune.TuneConfig:
    sweep = work.sweep
    shared = {"pool": work.engines.name}
    return tune.TuneConfig(
        num_samples=sweep.num_tune_trials + sweep.num_final_trials,
        search_alg=ArmSearcher(work.searches, work.ledger, work.engines.max_live, shared),
        scheduler=ArmScheduler(sweep, work.ledger),
        reuse_actors=True,
        trial_name_creator=_our_id,
        trial_dirname_creator=_our_id,
    )


def _set_tune_up() -> None:
    """Set what Tune reads from the environment when a Tuner is made."""
    os.environ |= {
        "TUNE_MAX_PENDING_TRIALS_PG": str(_num_starting()),
        # Tune's own logs and snapshots would repeat ours, in 1,000 files for 200 trials.
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
        # A diverged trial has no metrics, which Tune would take for a mistake.
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        # An interrupt ends the sweep at once: everything is saved already.
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "RAY_AIR_NEW_OUTPUT": "0",
        # Relative paths of a sweep file count from where its command was started.
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    }
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


def _num_starting() -> int:
    """Tell how many trials' processes may start at a time: more would only slow each other."""
    return max(MIN_STARTING, 2 * int(ray.cluster_resources().get("CPU", 1)))


def _our_id(trial: Trial) -> str:
    return str(trial.config["trial"]["trial_id"])


def _error_of(trial: Trial) -> BaseException | None:
    """Read a trial's last error from where Tune has just put it.

    `Trial.get_pickled_error` looks in the storage, to which Tune copies it only when the experiment
    ends (Ray 2.60).
    """
    try:
        error: BaseException = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    except (OSError, TypeError, pickle.UnpicklingError, ImportError, AttributeError):
        return None
    return error


def describe_failure(error: BaseException | None) -> str:
    """Say in one line why a trial failed: what its code raised, or what befell its process."""
    if error is None:
        return "unknown: Ray gave no reason"
    cause = error.cause if isinstance(error, RayTaskError) and error.cause is not None else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {' '.join(lines)[:500]}"
