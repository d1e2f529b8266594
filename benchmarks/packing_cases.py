"""What ``packing.py`` measures: shapes, batches and backbones, and a device in words."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from fpt_ray.config import TrialSettings
from fpt_ray.plan import count_operations
from fpt_ray.seeding import derive_seed
from fpt_ray.tasks import Batch, Task, TaskSources, TaskSpec, build_task
from fpt_ray.tasks.examples import Examples
from fpt_ray.tasks.generated import GeneratedTask
from fpt_ray.tasks.sequence_task import Origin
from fpt_ray.training import describe

Precision = Literal["fp32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
TRAINED = ("input", "output", "layer_norm", "positions")
DROPOUT = 0.1

Run = Callable[[int], float]
"""Trains a number of steps, and tells the seconds that they took, the device's work included."""


@dataclass(frozen=True)
class NoisyImages(GeneratedTask):
    """Random numbers in the shape of CIFAR-10's patches, so that no file is needed."""

    sources: TaskSources = field(default_factory=lambda: TaskSources(validation_size=1))
    version: ClassVar[str] = "noisy_images/1"

    @property
    def spec(self) -> TaskSpec:
        """Shapes: (batch, 64, 48), read from the last token."""
        return TaskSpec(64, "features", 48, num_read=1, decisions_per_token=1, num_classes=10)

    def generate(self, seed: int, start: int, count: int) -> Examples:
        """Draw bytes and classes."""
        rng = np.random.default_rng(derive_seed(seed, start))
        images = rng.integers(-128, 128, (count, 64, 48), dtype=np.int8)
        return Examples(images, rng.integers(0, 10, (count, 1), dtype=np.int8))

    def collate(self, examples: Examples, origin: Origin | None) -> Batch:
        """Scale bytes to [-1, 1)."""
        batch = super().collate(examples, origin)
        return Batch(batch.tokens / 128, batch.targets)


@dataclass(frozen=True)
class Case:
    """A trial's shapes.

    Attributes:
        task: a task's name in a sweep file.
        backbone: gpt2 (base) or minilm-l6, with random weights.
        batch_size: sequences of a trial in a step.
        wanted_gpu_ratio: how many times as many trial-steps as a plain loop are wanted on a GPU.
    """

    task: str
    backbone: str
    batch_size: int
    wanted_gpu_ratio: float = 15.0

    @property
    def name(self) -> str:
        """The case's name, such as ``bit_xor-gpt2-16``."""
        return f"{self.task}-{self.backbone}-{self.batch_size}"

    @property
    def spec(self) -> TaskSpec:
        """The task's shapes."""
        return self.build_task().spec

    def build_task(self) -> Task:
        """Make the task, which reads no files."""
        return NoisyImages() if self.task == "cifar10" else build_task(self.settings("fp32"))

    def settings(self, precision: Precision) -> TrialSettings:
        """Write what a trial of ours is told."""
        return TrialSettings.model_validate(
            {
                "task": {"name": self.task},
                "model": {"backbone": self.backbone, "init": "random", "trained": TRAINED},
                "training": {
                    "batch_size": self.batch_size,
                    "max_steps": 10**6,
                    "validation_size": 1,
                    "dropout": DROPOUT,
                    "precision": "bf16" if precision == "bf16" else "fp32",
                },
            }
        )

    def step_operations(self) -> int:
        """Count the floating-point operations of one trial's step: matrix products only."""
        settings = self.settings("fp32")
        return count_operations(settings, describe(settings)).training * self.batch_size


CASES = {
    case.name: case
    for case in (
        Case("bit_xor", "gpt2", 16),
        Case("bit_xor", "minilm-l6", 16),
        Case("bit_memory", "gpt2", 2),
        Case("bit_memory", "gpt2", 16),
        Case("bit_memory", "minilm-l6", 2),
        Case("cifar10", "gpt2", 16, wanted_gpu_ratio=6.0),
        Case("cifar10", "minilm-l6", 16, wanted_gpu_ratio=6.0),
    )
}


@contextmanager
def arithmetic(precision: Precision) -> Iterator[None]:
    """Allow the matrix products of a GPU to round fp32 to TF32, or forbid it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def draw(case: Case, device: torch.device, *lead: int) -> tuple[Tensor, Tensor]:
    """Draw random tokens and targets where they are needed: less work than any real data.

    Args:
        case: whose shapes.
        device: where.
        lead: leading dimensions, of trials.
    """
    spec = case.spec
    sizes = (*lead, case.batch_size)
    tokens = torch.randn(*sizes, spec.seq_length, spec.input_size, device=device)
    return tokens, torch.randint(spec.num_classes, (*sizes, spec.num_decisions), device=device)


def synchronise(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget(device: torch.device) -> None:
    """Give back the memory of what nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def describe_device(device: torch.device) -> dict[str, Any]:
    """Name a device and what drives it."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {
            "device": properties.name,
            "memory_gib": properties.total_memory // 2**30,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return {"device": "cpu", "threads": torch.get_num_threads(), "cores": os.cpu_count()}
