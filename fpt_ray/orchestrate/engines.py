"""The engines of a sweep as its driver sees them: how many trials they take, and how they are."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError

from fpt_ray.config import Sweep
from fpt_ray.data.deliver import Delivery
from fpt_ray.engine.crew import Plan
from fpt_ray.engine.places import Kind
from fpt_ray.engine.pool import start_pool
from fpt_ray.storage import RunDirectory

POLL_EVERY_S = 1.0
CLOSE_TIMEOUT_S = 5.0


def make_plan(sweep: Sweep, run: RunDirectory, delivery: Delivery, kind: Kind) -> Plan:
    """Say what the engines of a sweep are made of.

    Args:
        sweep: the sweep.
        run: its run directory.
        delivery: how data reach its trials.
        kind: the devices that it uses.
    """
    resources = sweep.resources
    return Plan(
        run=run.uri,
        delivery=(ray.put(delivery),),
        kind=kind,
        device=resources.device if kind == "cuda" else "cpu",
        metric=sweep.tune.metric if sweep.tune else "validation_accuracy",
        pack=resources.pack,
        max_devices=resources.max_devices,
        streams=delivery.streams,
        max_failures=sweep.failures.max_failures,
    )


class Engines:
    """The pool of a sweep, started and ended with a ``with`` statement.

    Args:
        plan: what the engines are made of.
        say: told of what a user should know, once.
    """

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._said: set[str] = set()
        self._status: dict[str, Any] | None = None
        self._asked: Any = None
        self._asked_at = 0.0
        self.name, self._pool = start_pool(plan)

    def __enter__(self) -> Engines:
        return self

    def __exit__(self, *_: object) -> None:
        """End all engines at once, whatever they are doing."""
        with contextlib.suppress(RayError):
            ray.get(self._pool.close.remote(), timeout=CLOSE_TIMEOUT_S)
        ray.kill(self._pool)

    def poll(self) -> None:
        """Look after the pool, without waiting for anything."""
        if self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
            with contextlib.suppress(RayError):
                self._take(ray.get(self._asked))
            self._asked = None
        if self._asked is None and time.monotonic() - self._asked_at >= POLL_EVERY_S:
            self._asked_at = time.monotonic()
            self._asked = self._pool.status.remote()

    def _take(self, status: dict[str, Any]) -> None:
        if not status["begun"]:
            # The pool died and was started again.
            self._pool.begin.remote(self._plan)
        knew = self.describe()
        self._status = status
        if not knew and self.describe():
            self._say(self.describe())
        for warning in status["warnings"]:
            if warning not in self._said:
                self._said.add(warning)
                self._say(warning)

    def max_live(self) -> int:
        """Tell how many trials may be alive now.

        One trial more than train waits, so that a device that ends its trial has the next at once;
        but where data stream it would stream its own for nothing.
        """
        self.poll()
        capacity: int = self._status["capacity"] if self._status else 1
        return capacity + (0 if self._plan.streams else 1)

    def describe(self) -> str:
        """Say how many trials train at a time, and on what; empty before the engines know."""
        if self._status is None:
            return ""
        return describe_engines(self._status)


def describe_engines(status: dict[str, Any]) -> str:
    """Say how many trials train at a time, and on what.

    Args:
        status: of the pool.

    Returns:
        A few words; empty while no engine knows how many trials it takes.
    """
    known = [engine for engine in status["engines"] if engine["size"] is not None]
    if not known:
        return ""
    counts = Counter(engine["device"] for engine in known)
    devices = " and ".join(n if count == 1 else f"{count} x {n}" for n, count in counts.items())
    sizes = sorted({engine["size"] for engine in known})
    span = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return f"{status['capacity']} trials at a time on {devices} (packs of {span})"
