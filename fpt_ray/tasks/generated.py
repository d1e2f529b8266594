"""What generated tasks share: endless training batches and fixed evaluation sets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fpt_ray.seeding import derive_seed
from fpt_ray.tasks.base import Batch, Split, TaskSources, TaskSpec, chunk_bounds

VALIDATION_SIZE = 1024
TEST_SIZE = 4096

Sequences = tuple[NDArray[np.int8], NDArray[np.int8]]
"""Tokens (batch, seq, features) of -1, 0 and +1, and targets (batch, decisions)."""


class GeneratedTask(ABC):
    """A task whose sequences are drawn at random, in the process that trains on them.

    Subclasses are frozen dataclasses with a field ``sources``.
    """

    sources: TaskSources
    version: ClassVar[str]
    """Name of the task's random streams; changing what is generated needs a new one."""

    @property
    @abstractmethod
    def spec(self) -> TaskSpec:
        """Shapes of the task."""

    @abstractmethod
    def generate(self, seed: int, count: int) -> Sequences:
        """Draw ``count`` sequences and their targets from one seed."""

    def batch(self, split: Split, seed: int, step: int, batch_size: int) -> Batch:
        """Make one batch, as ``Task.batch`` says."""
        if split == "train":
            stream = derive_seed(seed, self.version, "train", step)
            tokens, targets = self.generate(stream, batch_size)
        else:
            count = self.num_examples(split)
            if count is None:
                raise ValueError(f"the {split} split has no end")
            chunk = chunk_bounds(step, batch_size, count)
            tokens, targets = (array[chunk] for array in _evaluation_set(self, split, count))
        return Batch(
            torch.from_numpy(tokens.astype(np.float32)), torch.from_numpy(targets.astype(np.int64))
        )

    def num_examples(self, split: Split) -> int | None:
        """Count a split's sequences; training has no end."""
        if split == "train":
            return None
        if split == "validation":
            return self.sources.validation_size or VALIDATION_SIZE
        return self.sources.test_size or TEST_SIZE

    def fingerprint(self) -> str:
        """Name the generator's version."""
        return self.version


@lru_cache(maxsize=4)
def _evaluation_set(task: GeneratedTask, split: Split, count: int) -> Sequences:
    """Draw a fixed set that no trial's seed can change; kept, as every evaluation reads it."""
    return task.generate(derive_seed(0, task.version, split), count)
