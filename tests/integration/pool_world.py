"""A sweep's pool and thin trials on a real Ray; its engines compute nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from fpt_ray.config import TrialSettings
from fpt_ray.engine.crew import Plan
from fpt_ray.engine.pool import start_pool
from fpt_ray.trial import TrialTrainable
from tests.integration.fake_engine import FakeEngine

SETTINGS: dict[str, Any] = {
    "task": {"name": "bit_xor", "length": 2},
    "model": {"backbone": "tiny-bert", "init": "random", "trained": ["all"]},
}


def wait_until(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.1)


def described(name: str, **training: Any) -> dict[str, Any]:
    settings = TrialSettings.model_validate(SETTINGS | {"training": training})
    order = {"trial_id": name, "stage": "tune", "arm": "default", "seed": 1}
    return order | {"settings": settings.model_dump(mode="json")}


class Sweep:
    """A pool with fake engines, and the thin trials that a test starts."""

    def __init__(self, run: Path, **changes: Any) -> None:
        delivery = {"seconds": changes.pop("seconds", 0.05), "broken": changes.pop("broken", False)}
        fields: dict[str, Any] = {
            "kind": "cpu",
            "device": "cpu",
            "metric": "validation_accuracy",
            "pack": 2,
            "max_devices": None,
            "streams": False,
            "max_failures": 2,
            "engine": FakeEngine,
        }
        self.plan = Plan(run=str(run), delivery=(ray.put(delivery),), **(fields | changes))
        self.name, self.pool = start_pool(self.plan)
        self.trials: dict[str, Any] = {}

    def start(self, name: str, **training: Any) -> Any:
        thin = ray.remote(TrialTrainable).options(num_cpus=0, memory=1)
        self.trials[name] = thin.remote({"trial": described(name, **training), "pool": self.name})
        return self.trials[name].train.remote()

    def start_all(self, count: int) -> list[Any]:
        return [self.start(f"t{number}") for number in range(count)]

    def advance_all(self) -> list[dict[str, Any]]:
        return list(ray.get([trial.train.remote() for trial in self.trials.values()], timeout=120))

    def status(self) -> dict[str, Any]:
        return dict(ray.get(self.pool.status.remote(), timeout=120))

    def engines(self) -> list[dict[str, Any]]:
        return list(self.status()["engines"])

    def engines_after_beginning_again(self, former: set[int]) -> list[dict[str, Any]]:
        """Begin a pool that was started anew, as a driver does; list engines that are no former."""
        if not self.status()["begun"]:
            self.pool.begin.remote(self.plan)
        return [engine for engine in self.engines() if engine["pid"] not in former]

    def renewed(self) -> list[str]:
        """Trials that told an engine that they live."""
        (engine,) = self.engines()
        found: dict[str, Any] = ray.get(
            self.trials[next(iter(self.trials))].__ray_call__.remote(_status_of_engine)
        )
        assert found["pid"] == engine["pid"]
        return list(found["renewed"])

    def close(self) -> None:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self.pool.close.remote(), timeout=30)
        for actor in (self.pool, *self.trials.values()):
            ray.kill(actor)


def init(**resources: int) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", include_dashboard=False, **quiet, **resources)


def _status_of_engine(trial: Any) -> dict[str, Any]:
    return dict(ray.get(trial._engine.status.remote()))
