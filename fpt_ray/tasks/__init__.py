"""Tasks: pure functions from (split, seed, step) to a batch of tokens and targets."""

from __future__ import annotations

from collections.abc import Callable

from fpt_ray.tasks.base import SPLITS, Batch, Split, Task, TaskSources, TaskSpec
from fpt_ray.tasks.bit_memory import BitMemory
from fpt_ray.tasks.bit_xor import BitXor
from fpt_ray.tasks.mnist import Mnist
from fpt_ray.tasks.patches import patchify

TASKS: dict[str, Callable[..., Task]] = {
    "bit_xor": BitXor,
    "bit_memory": BitMemory,
    "mnist": Mnist,
}
"""Every task by its name in the sweep file; called with its parameters and ``sources``."""

__all__ = [
    "SPLITS",
    "TASKS",
    "Batch",
    "BitMemory",
    "BitXor",
    "Mnist",
    "Split",
    "Task",
    "TaskSources",
    "TaskSpec",
    "patchify",
]
