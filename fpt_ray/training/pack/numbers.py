"""A trial's own numbers: parameters and moments in flat vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

Shapes = Mapping[str, torch.Size]

ALIGNMENT = 16
"""Numbers: each parameter begins at a multiple of 64 bytes, as vector instructions like it."""

CHUNK = 256
"""Numbers whose squares are added up together; the gradients of a trial are whole chunks."""


class Layout:
    """Where parameters lie in a flat vector: first those that get updates, then the others.

    Args:
        shapes: of all parameters.
        moving: names of those that get updates in any trial.

    Attributes:
        shapes: of all parameters, in the order in which they lie.
        moving: names of those that get updates, in that order.
        num_moving: numbers that they take together, a multiple of ``CHUNK``.
        size: numbers that all parameters take together.
    """

    def __init__(self, shapes: Shapes, moving: Iterable[str]) -> None:
        chosen = set(moving)
        first = [name for name in shapes if name in chosen]
        last = [name for name in shapes if name not in chosen]
        self.shapes = {name: shapes[name] for name in (*first, *last)}
        self.moving = tuple(first)
        ends = list(accumulate((_aligned(shapes[name], ALIGNMENT) for name in first), initial=0))
        self.num_moving = -(-ends[-1] // CHUNK) * CHUNK
        sizes = (_aligned(shapes[name], ALIGNMENT) for name in last)
        rest = list(accumulate(sizes, initial=self.num_moving))
        self.size = rest[-1]
        self._starts = dict(zip(self.shapes, (*ends[:-1], *rest[:-1]), strict=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Layout):
            return NotImplemented
        return self.moving == other.moving and list(self.shapes.items()) == list(
            other.shapes.items()
        )

    def __hash__(self) -> int:
        return hash((self.moving, tuple(self.shapes)))

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def view(self, flat: Tensor, name: str) -> Tensor:
        """View one parameter in (..., numbers): (..., *shape)."""
        shape = self.shapes[name]
        return flat.narrow(-1, self._starts[name], shape.numel()).view(*flat.shape[:-1], *shape)


def _aligned(shape: torch.Size, alignment: int) -> int:
    return -(-shape.numel() // alignment) * alignment


@dataclass(frozen=True, slots=True)
class Numbers:
    """One trial's parameters and Adam's moments, on its device; a pack's are rows of buffers.

    Attributes:
        layout: where each parameter lies.
        values: (layout.size,) parameters.
        exp_avg: (layout.num_moving,) means of the gradients.
        exp_avg_sq: (layout.num_moving,) means of their squares.
    """

    layout: Layout
    values: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor

    @classmethod
    def zeros(cls, layout: Layout, device: torch.device) -> Numbers:
        """Make numbers that are all 0."""
        moments = (torch.zeros(layout.num_moving, device=device) for _ in range(2))
        return cls(layout, torch.zeros(layout.size, device=device), *moments)

    def value(self, name: str) -> Tensor:
        """View a parameter."""
        return self.layout.view(self.values, name)

    def moments(self, name: str) -> dict[str, Tensor]:
        """View Adam's moments of a parameter that gets updates, as torch names them."""
        views = self.layout.view(self.exp_avg, name), self.layout.view(self.exp_avg_sq, name)
        return dict(zip(("exp_avg", "exp_avg_sq"), views, strict=True))

    @torch.no_grad()
    def take(self, other: Numbers, shared: Mapping[str, Tensor]) -> None:
        """Become equal to other numbers.

        Args:
            other: of the same trial, maybe of another layout.
            shared: values of the parameters that the other has not.
        """
        if self.layout == other.layout:
            self.values.copy_(other.values)
            self.exp_avg.copy_(other.exp_avg)
            self.exp_avg_sq.copy_(other.exp_avg_sq)
            return
        for name in self.layout.shapes:
            found = other.value(name) if name in other.layout else shared[name]
            self.value(name).copy_(found)
        for moment in (self.exp_avg, self.exp_avg_sq):
            moment.zero_()
        known = set(other.layout.moving)
        for name in known.intersection(self.layout.moving):
            for own, found in zip(
                self.moments(name).values(), other.moments(name).values(), strict=True
            ):
                own.copy_(found)
