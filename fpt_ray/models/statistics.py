"""Random weights that share nothing with published ones but each tensor's mean and deviation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from fpt_ray.seeding import derive_seed


def draw_alike(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], seed: int
) -> dict[str, Tensor]:
    """Draw every parameter from the normal distribution of its published tensor's moments.

    Each tensor has a stream of its own, named by the parameter, so that what is drawn for one does
    not depend on which others there are.

    Args:
        tensors: published parameters by name.
        shapes: what to draw; its names are among the published ones, its shapes may be others.
        seed: the trial's seed.

    Source: Lu et al. 2021 (arXiv:2103.05247), table 9.
    """
    return {
        name: _draw(tensors[name], shape, derive_seed(seed, "statistics", name))
        for name, shape in shapes.items()
    }


def _draw(published: Tensor, shape: torch.Size, seed: int) -> Tensor:
    # numpy adds in one thread: torch's sums would depend on how many the machine has.
    values = published.detach().cpu().numpy()
    mean, deviation = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (drawn * float(deviation) + float(mean)).to(torch.float32)
