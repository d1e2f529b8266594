"""What a thin trial costs: private memory of its process, and seconds until it is ready.

    python benchmarks/thin_trial.py [--trials 4]

Starts the Tune trainable as an actor, as Tune does, on a local Ray, one after the other, beside a
pool of engines that is never asked for any. At most 130 MB and 3 s are wanted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import ray
from memory import private_mb
from provenance import write_result

from fpt_ray.trial import TrialTrainable

WANTED_MB = 130
WANTED_S = 3.0
POOL = "pool of the benchmark"


class Measured(TrialTrainable):
    """A thin trial that tells of itself."""

    def private_mb(self) -> float:
        """Read its private memory, and that it has no torch."""
        import sys

        assert "torch" not in sys.modules
        return private_mb()


class Pool:
    """Stands where the pool does."""


def start() -> tuple[float, float]:
    """Start a trial; return the seconds until it answers and its private memory in MB."""
    config: dict[str, Any] = {"trial": {}, "pool": POOL}
    started = time.perf_counter()
    actor = ray.remote(Measured).options(num_cpus=0).remote(config)
    private = ray.get(actor.private_mb.remote())
    seconds = time.perf_counter() - started
    ray.kill(actor)
    return seconds, private


def main() -> None:
    """Start trials, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=4)
    num_trials = parser.parse_args().trials
    folder = str(Path(__file__).parent)
    paths = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
    ray.init(include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
    pool = ray.remote(Pool).options(name=POOL, num_cpus=0).remote()
    ray.get(pool.__ray_ready__.remote())
    found = [start() for _ in range(num_trials)]
    ray.shutdown()
    seconds, private = zip(*found, strict=True)
    result = {
        "ready_s": [round(each, 2) for each in seconds],
        "median_ready_s": round(statistics.median(seconds), 2),
        "wanted_ready_s": WANTED_S,
        "private_mb": [round(each, 1) for each in private],
        "wanted_private_mb": WANTED_MB,
    }
    write_result("thin_trial", {"trials": num_trials, **result})


if __name__ == "__main__":
    main()
