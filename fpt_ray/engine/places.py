"""Where a cluster has room for engines, and what each of them asks of Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Place:
    """One device: a GPU wherever Ray finds one, or all the CPUs of one machine.

    Attributes:
        node: the machine that an engine must be on; None where Ray chooses.
        num_cpus: asked of Ray.
        num_gpus: asked of Ray, 0 or 1.
        num_threads: threads that the engine computes with on CPUs.
    """

    node: str | None
    num_cpus: float
    num_gpus: int
    num_threads: int


def find_places(nodes: Sequence[Mapping[str, Any]], kind: Kind, streams: bool) -> list[Place]:
    """List the devices of a cluster.

    Args:
        nodes: as ``ray.nodes()`` gives them.
        kind: which devices count.
        streams: leave a CPU of every machine to Ray Data, which would otherwise wait for ever.
    """
    alive = [node for node in nodes if node["Alive"]]
    return _gpus(alive, streams) if kind == "cuda" else _machines(alive, streams)


def _gpus(nodes: Sequence[Mapping[str, Any]], streams: bool) -> list[Place]:
    """Give every GPU its share of its machine's CPUs, the same share for all: Ray picks the GPU."""
    counts = [int(node["Resources"].get("GPU", 0)) for node in nodes]
    shares = [
        _num_cpus(node, streams) / count for node, count in zip(nodes, counts, strict=True) if count
    ]
    least = min(shares, default=1.0)
    return [Place(None, min(1.0, least), 1, max(1, int(least)))] * sum(counts)


def _machines(nodes: Sequence[Mapping[str, Any]], streams: bool) -> list[Place]:
    cpus = {str(node["NodeID"]): int(_num_cpus(node, streams)) for node in nodes}
    return [Place(node, float(count), 0, count) for node, count in cpus.items() if count]


def _num_cpus(node: Mapping[str, Any], streams: bool) -> float:
    return max(0.0, float(node["Resources"].get("CPU", 0)) - (1 if streams else 0))


def vacant(places: Sequence[Place], taken: Sequence[Place], most: int | None) -> list[Place]:
    """List the places that engines are still to be made for.

    Args:
        places: all there are.
        taken: those of the engines there are.
        most: engines at a time; None for as many as there are places.
    """
    by_node = {place.node for place in taken if place.node is not None}
    free = [place for place in places if place.node is not None and place.node not in by_node]
    anywhere = [place for place in places if place.node is None]
    free += anywhere[sum(place.node is None for place in taken) :]
    return free if most is None else free[: max(0, most - len(taken))]


def fitted(place: Place, free: float, patient: bool) -> Place | None:
    """Fit a machine's place to the CPUs that other work leaves there.

    Args:
        place: all the CPUs of a machine, or a GPU, which asks for as little as it can anyway.
        free: the CPUs that are free there now, those for Ray Data aside.
        patient: whether the other work may be about to end.

    Returns:
        The place to take; None to wait.
    """
    if place.node is None or free >= place.num_cpus:
        return place
    if patient or free < 1:
        return None
    return Place(place.node, float(int(free)), 0, int(free))


def demand(places: Sequence[Place], streams: bool) -> dict[str, float]:
    """Say what one further device would be, for an autoscaler to see.

    Args:
        places: those there are.
        streams: a further machine would have a CPU for Ray Data too.
    """
    if not places:
        return {"CPU": 1.0}
    smallest = min(places, key=lambda place: place.num_cpus)
    spare = 1 if streams and smallest.node is not None else 0
    asked = {"CPU": smallest.num_cpus + spare, "GPU": float(smallest.num_gpus)}
    return {name: amount for name, amount in asked.items() if amount}
