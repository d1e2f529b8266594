"""The actor that knows a sweep's engines, and tells trials which one is theirs."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fpt_ray.config import TrialSettings
from fpt_ray.config.packing import pack_group
from fpt_ray.engine.crew import LOOK_EVERY_S, Crew, Member, Plan
from fpt_ray.engine.roster import Roster
from fpt_ray.errors import TrialError

SILENT_AFTER_S = 60.0
"""A trial that no engine holds and that has not asked for so long belongs to nobody."""

UNMEASURED_SIZE = 4
"""Trials to start for an engine that has not measured yet how many it takes."""

MOST_LIVE = {"cuda": 64, "cpu": 16}
"""Trials on a device at most: each has a process, whose start costs a CPU more than a second, and
on a CPU that is time of training."""


class Pool:
    """Place trials on engines; an actor class, as it is before ``ray.remote``.

    Ray starts it again where it dies. Its engines die with it, trials ask again, and the driver
    begins it again: were the plan an argument of the constructor, Ray would warn that it may be
    lost.
    """

    def __init__(self) -> None:
        self._roster = Roster()
        self._plan: Plan | None = None
        self._crew: Crew | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def begin(self, plan: Plan) -> None:
        """Start to make engines; once it has begun, nothing happens.

        Args:
            plan: what the engines are made of.
        """
        if self._crew is None:
            self._plan, self._crew = plan, Crew(plan)
            self._keeper = asyncio.get_running_loop().create_task(self._keep(plan, self._crew))

    async def engine_for(
        self, order: dict[str, Any], lost: str | None = None, progressed: bool = False
    ) -> tuple[str, Any]:
        """Name the engine that a trial's next request goes to; wait until there is one.

        Args:
            order: what an engine's ``advance`` takes.
            lost: the engine that died under the trial, or could not be reached.
            progressed: whether the trial was evaluated since it asked last.

        Returns:
            The engine's name and its handle.

        Raises:
            TrialError: too many engines died under the trial, or none can be started.
        """
        trial_id = order["trial_id"]
        settings = TrialSettings.model_validate(order["settings"])
        self._roster.enter(trial_id, pack_group(settings, order["seed"]), time.monotonic())
        if progressed:
            self._roster.note_progress(trial_id)
        plan, crew = await self._begun()
        if lost is not None:
            self._note_loss(trial_id, plan.max_failures)
            await crew.reach(lost)
        ready = await _ready(plan, crew)
        name = self._roster.place(trial_id, ready, avoid=lost)
        return name, crew.members[name].actor

    async def release(self, trial_id: str) -> None:
        """Say that a trial needs no engine any more."""
        self._roster.release(trial_id)

    async def status(self) -> dict[str, Any]:
        """Describe the pool.

        Returns:
            ``begun``, ``capacity`` (trials that its engines can train at a time, each in a pack
            or waiting for its pack's next turn), ``engines`` (name, node, device, pid, size and
            trials of each that is ready), ``num_engines`` (those that start included),
            ``wants_more`` (whether another device is asked for) and ``warnings``.
        """
        if self._plan is None or self._crew is None:
            return _NOT_BEGUN
        ready = self._crew.ready
        warnings = {(member.status or {}).get("warning") for member in ready}
        return {
            "begun": True,
            "capacity": self._capacity(self._plan, self._crew),
            "engines": [self._describe(member, self._crew) for member in ready],
            "num_engines": len(self._crew.members),
            "wants_more": self._crew.wants_more,
            "warnings": sorted(text for text in warnings if text),
        }

    async def close(self) -> None:
        """End all engines at once."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._crew is not None:
            self._crew.close()

    def _describe(self, member: Member, crew: Crew) -> dict[str, Any]:
        status = member.status or {}
        return {
            "name": member.name,
            "node": member.node,
            "device": status.get("device"),
            "pid": status.get("pid"),
            "size": crew.size(member),
            "trials": self._roster.load(member.name),
        }

    def _capacity(self, plan: Plan, crew: Crew) -> int:
        return max(1, sum(self._room(plan, crew, each) for each in crew.members.values()))

    def _room(self, plan: Plan, crew: Crew, member: Member) -> int:
        """Count the trials that keep an engine busy: a full pack of each group that it has."""
        size = crew.size(member) or (1 if plan.streams else UNMEASURED_SIZE)
        # A trial that waits for its pack's turn would have a stream of its own run for nothing.
        if plan.pack == 1 or plan.streams:
            return size
        num_groups = max(1, len(self._roster.groups(member.name)))
        return max(size, min(size * num_groups, MOST_LIVE[plan.kind]))

    def _note_loss(self, trial_id: str, most: int) -> None:
        deaths = self._roster.note_death(trial_id)
        if deaths > most:
            raise TrialError(
                f"the engine died {deaths} times under this trial before it was evaluated once",
                where=f"trial {trial_id}",
                fix="find out what ended it, out of memory most often: a smaller "
                "training.batch_size or resources.pack needs less",
            )

    async def _begun(self) -> tuple[Plan, Crew]:
        while self._plan is None or self._crew is None:
            await asyncio.sleep(LOOK_EVERY_S / 10)
        return self._plan, self._crew

    async def _keep(self, plan: Plan, crew: Crew) -> None:
        """Look at the cluster again and again."""
        while True:
            # A head node that is being restarted does not answer; the next look will tell.
            with contextlib.suppress(RayError, ConnectionError):
                crew.look(await asyncio.to_thread(ray.nodes), self._is_full(plan, crew))
            held = {t for each in crew.ready for t in (each.status or {}).get("trials", ())}
            self._roster.forget_silent(held, time.monotonic() - SILENT_AFTER_S)
            await asyncio.sleep(LOOK_EVERY_S)

    def _is_full(self, plan: Plan, crew: Crew) -> bool:
        # Where data stream no trial is started that must wait, so that a full house must do.
        return len(self._roster) > self._capacity(plan, crew) - (1 if plan.streams else 0)


_NOT_BEGUN: dict[str, Any] = {
    "begun": False,
    "capacity": 1,
    "engines": [],
    "num_engines": 0,
    "wants_more": False,
    "warnings": [],
}


async def _ready(plan: Plan, crew: Crew) -> list[str]:
    """Wait until an engine takes trials.

    Raises:
        TrialError: engines die before they are ready, again and again.
    """
    while not (names := [member.name for member in crew.ready]):
        if crew.births.failed > plan.max_failures:
            raise TrialError(
                f"no engine starts: {crew.births.reason}",
                where=f"{crew.births.failed} attempts in a row",
                fix="--debug shows the messages of the engines' processes",
            )
        await asyncio.sleep(LOOK_EVERY_S / 10)
    return names


def start_pool(plan: Plan) -> tuple[str, Any]:
    """Start a pool on this machine; return the name that trials find it by, and itself."""
    name = f"fpt_ray-pool-{uuid.uuid4().hex[:12]}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor: Any = ray.remote(Pool)
    pool: Any = actor.options(
        name=name,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=10_000,
        scheduling_strategy=here,
    ).remote()
    pool.begin.remote(plan)
    return name, pool
