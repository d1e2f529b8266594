"""MNIST as a sequence of patches."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fpt_ray.errors import DataError
from fpt_ray.seeding import derive_seed
from fpt_ray.tasks.base import Batch, Split, TaskSources, TaskSpec, chunk_bounds
from fpt_ray.tasks.mnist_files import NUM_CLASSES, SIDE, hash_mnist, load_mnist
from fpt_ray.tasks.patches import patchify
from fpt_ray.tasks.randomness import random_order

VALIDATION_SIZE = 5000


@dataclass(frozen=True)
class Mnist:
    """Show a digit patch by patch; ask which it is, after the last patch.

    Training runs through seeded permutations of the published training set without the images
    that a fixed seed holds out for validation; test is the published test set.

    Attributes:
        patch_size: side of a patch in pixels.
        image_size: side of an image in pixels; beyond 28 it is padded with zeros all around.

    Raises:
        DataError: the patches do not tile the image, or it cannot be padded evenly.
    """

    patch_size: int = 4
    image_size: int = SIDE
    sources: TaskSources = field(default_factory=TaskSources)
    version: ClassVar[str] = "mnist/1"

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together."""
        if self.image_size % self.patch_size:
            raise DataError(
                f"patches of {self.patch_size} do not tile {self.image_size} pixels",
                where="task.patch_size",
                fix="patch_size: 4",
            )
        if self.image_size < SIDE or (self.image_size - SIDE) % 2:
            raise DataError(
                f"images of {SIDE} pixels cannot be padded evenly to {self.image_size}",
                where="task.image_size",
                fix=f"image_size: {SIDE}, or 32 as in the paper",
            )

    @property
    def spec(self) -> TaskSpec:
        """Shapes: (batch, patches, patch_size**2), read from the last token."""
        return TaskSpec(
            seq_length=(self.image_size // self.patch_size) ** 2,
            input_kind="features",
            input_size=self.patch_size**2,
            num_read=1,
            decisions_per_token=1,
            num_classes=NUM_CLASSES,
        )

    def batch(self, split: Split, seed: int, step: int, batch_size: int) -> Batch:
        """Make one batch, as ``Task.batch`` says."""
        images, labels = load_mnist(self.sources.data_dir, "test" if split == "test" else "train")
        chosen = self._choose(split, seed, step, batch_size)
        pixels = torch.from_numpy(images[chosen]).float().div_(255).unsqueeze(1)
        padding = (self.image_size - SIDE) // 2
        padded = torch.nn.functional.pad(pixels, (padding,) * 4)
        return Batch(
            patchify(padded, self.patch_size), torch.from_numpy(labels[chosen]).unsqueeze(1)
        )

    def num_examples(self, split: Split) -> int:
        """Count a split's images.

        Raises:
            DataError: the sources hold fewer images than ``sources`` asks for.
        """
        if split == "test":
            return self._test_size()
        num_published = len(load_mnist(self.sources.data_dir, "train")[1])
        validation_size = self.sources.validation_size or VALIDATION_SIZE
        if validation_size >= num_published:
            raise DataError(
                f"{validation_size} images for validation leave none of {num_published} to train",
                where="training.validation_size",
                fix=f"hold out fewer than {num_published} images",
            )
        return validation_size if split == "validation" else num_published - validation_size

    def fingerprint(self) -> str:
        """Hash the source files and name the version of the split."""
        return f"{self.version}-{hash_mnist(self.sources.data_dir)}"

    def _test_size(self) -> int:
        num_published = len(load_mnist(self.sources.data_dir, "test")[1])
        test_size = self.sources.test_size or num_published
        if test_size > num_published:
            raise DataError(
                f"{test_size} test images are asked for, but only {num_published} are published",
                where="training.test_size",
                fix=f"leave it out, or ask for at most {num_published}",
            )
        return test_size

    def _choose(self, split: Split, seed: int, step: int, batch_size: int) -> NDArray[np.int64]:
        """Find a batch's rows in the published training or test set."""
        count = self.num_examples(split)
        if split == "test":
            return np.arange(count)[chunk_bounds(step, batch_size, count)]
        num_train = self.num_examples("train")
        num_published = num_train + self.num_examples("validation")
        held_out_last = _order(derive_seed(0, self.version, "held_out"), num_published)
        if split == "validation":
            return held_out_last[num_train:][chunk_bounds(step, batch_size, count)]
        positions = np.arange(step * batch_size, (step + 1) * batch_size)
        rows = np.empty(batch_size, dtype=np.int64)
        for epoch in np.unique(positions // count):
            inside = positions // count == epoch
            order = _order(derive_seed(seed, self.version, "epoch", int(epoch)), count)
            rows[inside] = held_out_last[order[positions[inside] % count]]
        return rows


@lru_cache(maxsize=8)
def _order(seed: int, count: int) -> NDArray[np.int64]:
    order = random_order(seed, count)
    order.setflags(write=False)
    return order
