"""What image tasks share: from pixels over augmentation and normalisation to patches."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fpt_ray.errors import DataError
from fpt_ray.seeding import derive_seed
from fpt_ray.tasks.augment import distort, draw_distortions
from fpt_ray.tasks.base import Batch, Split, TaskSpec
from fpt_ray.tasks.examples import Examples
from fpt_ray.tasks.finite import FiniteTask
from fpt_ray.tasks.patches import patch_order
from fpt_ray.tasks.sequence_task import Origin

VALIDATION_SIZE = 5000

_PIXELS_AT_A_TIME = 2**15
"""So many that what is computed on the way to tokens stays in a core's cache."""


class ImageTask(FiniteTask):
    """Show an image patch by patch; ask its class, after the last patch.

    Training runs through seeded permutations of the published training set without the images
    that a fixed seed holds out for validation; test is the published test set. Where images are
    augmented, those of training alone are. Subclasses are frozen dataclasses.

    Raises:
        DataError: the patches do not tile the image.
    """

    patch_size: int
    augment: bool
    num_channels: ClassVar[int]
    num_classes: ClassVar[int]
    flips: ClassVar[bool]
    """Whether augmentation mirrors images."""
    validation_size: ClassVar[int | None] = VALIDATION_SIZE

    def __post_init__(self) -> None:
        """Refuse patches that do not tile the image."""
        if self.side % self.patch_size:
            raise DataError(
                f"patches of {self.patch_size} do not tile {self.side} pixels",
                where="task.patch_size",
                fix="patch_size: 4",
            )

    @property
    @abstractmethod
    def side(self) -> int:
        """Side of an image as it is shown, in pixels."""

    @abstractmethod
    def pack(self, images: NDArray[np.uint8]) -> NDArray[np.generic]:
        """Write images as (images, side, side): one value for all channels of a pixel.

        The value 0 is black.
        """

    @abstractmethod
    def unpack(self, pixels: NDArray[np.generic], features: Tensor) -> None:
        """Write packed pixels as normalised numbers.

        Args:
            pixels: (images, pixels), as ``pack`` writes them.
            features: (images, pixels, channels) float32, to be filled.
        """

    def is_fixed(self, split: Split) -> bool:
        """Whether images are shown as they are: all but those that are augmented."""
        return not (self.augment and split == "train")

    @property
    def spec(self) -> TaskSpec:
        """Shapes: (batch, patches, patch_size**2 * channels), read from the last token."""
        return TaskSpec(
            seq_length=(self.side // self.patch_size) ** 2,
            input_kind="features",
            input_size=self.patch_size**2 * self.num_channels,
            num_read=1,
            decisions_per_token=1,
            num_classes=self.num_classes,
        )

    def collate(self, examples: Examples, origin: Origin | None) -> Batch:
        """Turn images into patches, a few images at a time."""
        num_images, num_pixels = len(examples), self.side**2
        features = torch.empty(num_images, num_pixels, self.num_channels)
        order = patch_order(self.side, self.patch_size)
        distortions = None
        if self.augment and origin is not None:
            seed = derive_seed(origin.seed, self.version, "augment")
            distortions = draw_distortions(seed, origin.start, num_images, self.flips)
        together = max(1, _PIXELS_AT_A_TIME // num_pixels)
        for start in range(0, num_images, together):
            stop = min(start + together, num_images)
            packed = self.pack(examples.values[start:stop])
            if distortions is None:
                pixels = np.take(packed.reshape(stop - start, -1), order, axis=1)
            else:
                pixels = distort(packed, distortions.part(start, stop), order)
            self.unpack(pixels, features[start:stop])
        tokens = features.view(num_images, self.spec.seq_length, self.spec.input_size)
        return Batch(tokens, torch.tensor(examples.targets).unsqueeze(1))
