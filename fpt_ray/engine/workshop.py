"""An engine put together of its real parts."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any, Literal

import ray
import torch

from fpt_ray.config import TrialSettings
from fpt_ray.data.deliver import Delivery
from fpt_ray.engine.loop import EngineLoop, Tools
from fpt_ray.engine.session import TrialSession
from fpt_ray.engine.sizing import Limits, measured_by
from fpt_ray.storage import RunDirectory
from fpt_ray.tasks import Task
from fpt_ray.training import Metric, Pack, PackedTrial, PackKey, Shelf, prepare_trial


@dataclasses.dataclass(frozen=True, slots=True)
class Workshop:
    """What all trials of an engine have in common.

    Attributes:
        run: the sweep's run directory.
        delivery: how data reach the trials.
        device: where they train.
        metric: by which best parameters are chosen.
        shelf: what they share on the device.
    """

    run: RunDirectory
    delivery: Delivery
    device: torch.device
    metric: Metric
    shelf: Shelf

    def open(self, order: Mapping[str, Any]) -> TrialSession:
        """Open a trial as it was ordered."""
        return TrialSession(self.run, order, self.delivery, self._prepare)

    def _prepare(self, settings: TrialSettings, seed: int, task: Task) -> PackedTrial:
        return prepare_trial(settings, seed, str(self.device), self.metric, task, self.shelf)


def start(workshop: Workshop, pack: Literal["auto"] | int, num_threads: int) -> EngineLoop:
    """Start the loop of an engine.

    Args:
        workshop: what its trials have in common.
        pack: trials in a pack at most, or ``auto``.
        num_threads: threads that compute on a CPU.
    """
    device = workshop.device
    # Every trial that is streamed has a pipeline of Ray Data of its own, which wants a CPU.
    cap = spare_cpus() if workshop.delivery.streams else None
    limits = Limits(pack, measured_by(device, cap), _shape_of)
    tools = Tools(
        open_session=workshop.open,
        make_pack=Pack,
        limits=limits,
        device=device,
        metric=workshop.metric,
        begin=partial(_begin, device, num_threads),
        # Ray sees that the process is gone, and its trials go on elsewhere.
        on_broken=partial(os._exit, 1),
    )
    return EngineLoop(tools)


def was_given_gpu() -> bool:
    """Tell whether Ray has given this process a GPU."""
    return ray.is_initialized() and bool(ray.get_gpu_ids())


def spare_cpus() -> int:
    """Count the CPUs that engines leave to others on this node, for each of its engines; or 1."""
    if not ray.is_initialized():
        return 1
    context = ray.get_runtime_context()
    found = [node for node in ray.nodes() if node["NodeID"] == context.get_node_id()]
    resources = found[0]["Resources"] if found else {}
    own = context.get_assigned_resources() if context.get_actor_id() else {}
    num_engines = max(1, int(resources.get("GPU", 0))) if own.get("GPU") else 1
    return max(1, int(resources.get("CPU", 0) / num_engines - own.get("CPU", 0)))


def _begin(device: torch.device, num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)


def _shape_of(key: PackKey) -> Hashable:
    """Leave out of a key what decides nothing about speed or memory: the weights' numbers."""
    return dataclasses.replace(key, weights="")
