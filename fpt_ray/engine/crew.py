"""The engines of a sweep: made as devices appear, watched, and replaced where they die."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray._private.state import available_resources_per_node
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fpt_ray.engine.actor import Engine
from fpt_ray.engine.places import Kind, Place, demand, find_places, fitted, vacant

LOOK_EVERY_S = 1.0
REACH_TIMEOUT_S = 5.0

PATIENCE_S = 10.0
"""How long an engine waits for all CPUs of its machine before it takes what is free."""


@dataclass(frozen=True)
class Plan:
    """What a sweep's engines are made of.

    Attributes:
        run: the sweep's run directory.
        delivery: how data reach the trials: a reference, alone in a tuple so that only engines
            fetch it.
        kind: which devices to use.
        device: what engines are told: ``auto``, ``cpu`` or ``cuda``.
        metric: by which best parameters are chosen.
        pack: trials in a pack at most; ``auto`` lets each engine measure.
        max_devices: devices at a time; None for all there are.
        streams: leave a CPU of every machine to Ray Data.
        max_failures: how often an engine may die under a trial that makes no progress.
        engine: the class of the engines.
    """

    run: str
    delivery: tuple[Any]
    kind: Kind
    device: str
    metric: str
    pack: Literal["auto"] | int
    max_devices: int | None
    streams: bool
    max_failures: int
    engine: type = Engine


@dataclass(slots=True)
class Member:
    """One engine.

    Attributes:
        name: unlike that of any other engine.
        place: the device that it has, or waits for.
        actor: the engine.
        node: the machine that it is on; None while Ray has not chosen one.
        status: what it said of itself last; None while it starts.
        watch: asks it again and again.
    """

    name: str
    place: Place
    actor: Any
    node: str | None
    status: dict[str, Any] | None = None
    watch: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it takes trials."""
        return self.status is not None


@dataclass(slots=True)
class Births:
    """How many engines died before they were ready, one after another, and of what."""

    failed: int = 0
    reason: str = ""
    not_before: float = field(default=0.0)

    def note(self, error: BaseException) -> None:
        """Count one more, and put off the next try."""
        self.failed += 1
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        self.reason = lines[-1] if lines else type(error).__name__
        self.not_before = time.monotonic() + min(30.0, 2.0**self.failed)


class Crew:
    """All engines of a sweep. Everything happens in one event loop.

    Args:
        plan: what they are made of.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.members: dict[str, Member] = {}
        self.births = Births()
        self._demand: PlacementGroup | None = None
        self._waiting_since: dict[str | None, float] = {}

    @property
    def ready(self) -> list[Member]:
        """The engines that take trials."""
        return [member for member in self.members.values() if member.is_ready]

    @property
    def wants_more(self) -> bool:
        """Whether a further device is asked for."""
        return self._demand is not None

    def size(self, member: Member) -> int | None:
        """Tell how many trials an engine trains at a time; None before it was measured."""
        if self._plan.pack != "auto":
            return self._plan.pack
        return member.status["size"] if member.status else None

    def look(self, nodes: list[dict[str, Any]], is_full: bool) -> None:
        """Make an engine for every device that has none, and ask for more devices or not.

        Args:
            nodes: as ``ray.nodes()`` gives them.
            is_full: whether more trials want to train than the engines have room for.
        """
        places = find_places(nodes, self._plan.kind, self._plan.streams)
        taken = [member.place for member in self.members.values()]
        free = vacant(places, taken, self._plan.max_devices)
        if time.monotonic() >= self.births.not_before:
            for place in free:
                self._make_where_free(place)
        lacking = is_full and not free and self._may_grow()
        self._ask_for_more(demand(places, self._plan.streams) if lacking else None)

    def _may_grow(self) -> bool:
        """Tell whether one more device is allowed, and all engines are known to be at work."""
        most = self._plan.max_devices
        known = [member.is_ready and self.size(member) for member in self.members.values()]
        return bool(known) and all(known) and (most is None or len(known) < most)

    def _ask_for_more(self, bundle: dict[str, float] | None) -> None:
        """Show an autoscaler that one further device is wanted, or not any more."""
        if bundle is not None and self._demand is None:
            self._demand = placement_group([bundle])
        elif bundle is None and self._demand is not None:
            remove_placement_group(self._demand)
            self._demand = None

    def _make_where_free(self, place: Place) -> None:
        """Make an engine, with fewer CPUs where other work holds some of them for long."""
        now = time.monotonic()
        waited = now - self._waiting_since.setdefault(place.node, now)
        free = _free_cpus(place, self._plan.streams)
        fitting = fitted(place, free, patient=waited < PATIENCE_S)
        if fitting is not None:
            self._waiting_since.pop(place.node)
            self._make(fitting)

    def _make(self, place: Place) -> None:
        plan = self._plan
        pinned = NodeAffinitySchedulingStrategy(place.node, soft=False) if place.node else "SPREAD"
        engine: Any = ray.remote(plan.engine).options(
            num_cpus=place.num_cpus,
            num_gpus=place.num_gpus,
            scheduling_strategy=pinned,
            max_restarts=0,
        )
        (delivery,) = plan.delivery
        actor = engine.remote(
            plan.run, delivery, plan.device, plan.metric, plan.pack, place.num_threads
        )
        member = Member(uuid.uuid4().hex[:8], place, actor, place.node)
        self.members[member.name] = member
        member.watch = asyncio.get_running_loop().create_task(self._watch(member))

    async def _watch(self, member: Member) -> None:
        """Ask an engine how it is until it dies."""
        try:
            while True:
                status = await member.actor.status.remote()
                if member.node is None:
                    member.node = await member.actor.__ray_call__.remote(_node_of)
                if not member.is_ready:
                    self.births = Births()
                member.status = status
                await asyncio.sleep(LOOK_EVERY_S)
        except RayError as error:
            self._discard(member, error)

    async def reach(self, name: str) -> None:
        """Find out whether an engine that a trial could not reach still answers."""
        member = self.members.get(name)
        if member is None:
            return
        try:
            await asyncio.wait_for(_answer(member.actor.status.remote()), REACH_TIMEOUT_S)
        except (RayError, TimeoutError) as error:
            self._discard(member, error)

    def _discard(self, member: Member, error: BaseException | None = None) -> None:
        """End an engine, if it has not ended, and forget it."""
        if self.members.pop(member.name, None) is None:
            return
        if member.watch is not None and member.watch is not asyncio.current_task():
            member.watch.cancel()
        ray.kill(member.actor)
        if error is not None and not member.is_ready:
            self.births.note(error)

    def close(self) -> None:
        """End all engines at once."""
        self._ask_for_more(None)
        for member in list(self.members.values()):
            self._discard(member)


def _free_cpus(place: Place, streams: bool) -> float:
    """Count the CPUs that are free on a place's machine, that of Ray Data aside."""
    # Ray 2.60 offers what tells this by machine to developers, but not under a public name.
    free = available_resources_per_node().get(place.node, {})
    return float(free.get("CPU", 0.0)) - (1 if streams else 0)


def _node_of(_: object) -> str:
    return str(ray.get_runtime_context().get_node_id())


async def _answer(reference: Any) -> Any:
    return await reference
