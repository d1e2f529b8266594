"""The gradients of a pack's trials: in one buffer, or as backward passes give them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from fpt_ray.training.pack.numbers import CHUNK, Layout

LOOSE_FROM = 1 << 20
"""Numbers of a trial from which copying its gradients into a buffer costs a CPU more than it saves.
Measured on MiniLM with all 11 million trained: the copy took 5 % of a step."""


class Gradients(ABC):
    """The gradients of one step.

    Args:
        layout: of a trial's parameters.
        trained: names of the parameters that each trial trains.
        device: where they are.
    """

    def __init__(
        self, layout: Layout, trained: Sequence[Collection[str]], device: torch.device
    ) -> None:
        self.layout = layout
        self.trained = trained
        self.device = device

    @abstractmethod
    def take(self, found: tuple[Tensor, ...]) -> Tensor:
        """Take what a backward pass found, and put 0 where a trial does not train.

        Args:
            found: (trials, *shape) for each of ``layout.moving``.

        Returns:
            (trials,) norm of each trial's gradients.
        """

    @abstractmethod
    def parts(self, flat: Tensor) -> list[Tensor]:
        """Cut (layout.num_moving or more,) numbers of one trial as its gradients are cut."""

    @abstractmethod
    def of(self, trial: int) -> list[Tensor]:
        """Give one trial's gradients, in parts."""

    @abstractmethod
    def forget(self) -> None:
        """Free those of the step before.

        Just before a backward pass, which takes the memory at once: freed earlier it would go back
        to the system, and touching it again took 7 % of MiniLM's step with everything trained.
        """

    def by_name(self, trial: int) -> dict[str, Tensor]:
        """Copy the gradients of what one trial trains."""
        found = self._views(trial)
        return {name: found[name].clone() for name in found if name in self.trained[trial]}

    @abstractmethod
    def _views(self, trial: int) -> dict[str, Tensor]:
        """View one trial's gradients by the names of parameters."""


class FlatGradients(Gradients):
    """In one buffer, (trials, layout.num_moving), which takes few operations to work on.

    Attributes:
        buffer: the gradients; what lies between parameters is 0.
    """

    def __init__(
        self, layout: Layout, trained: Sequence[Collection[str]], device: torch.device
    ) -> None:
        super().__init__(layout, trained, device)
        self.buffer = torch.zeros(len(trained), layout.num_moving, device=device)
        self._parts = [layout.view(self.buffer, name) for name in layout.moving]
        self._untrained = self._mask()

    def take(self, found: tuple[Tensor, ...]) -> Tensor:
        """Copy what was found, as ``Gradients.take`` says."""
        torch._foreach_copy_(self._parts, found)
        if self._untrained is not None:
            self.buffer.masked_fill_(self._untrained, 0.0)
        chunks = self.buffer.view(len(self.trained), -1, CHUNK)
        # In float64 it is of no account where in the buffer others have a parameter begin.
        of_chunks = torch.linalg.vector_norm(chunks, dim=2, dtype=torch.float64)
        norms: Tensor = torch.linalg.vector_norm(of_chunks, dim=1)
        return norms.float()

    def parts(self, flat: Tensor) -> list[Tensor]:
        """Leave the numbers in one part."""
        return [flat[: self.layout.num_moving]]

    def of(self, trial: int) -> list[Tensor]:
        """Give one row."""
        return [self.buffer[trial]]

    def forget(self) -> None:
        """Keep the buffer."""

    def _views(self, trial: int) -> dict[str, Tensor]:
        row = self.buffer[trial]
        return {name: self.layout.view(row, name) for name in self.layout.moving}

    def _mask(self) -> Tensor | None:
        """Mark what moves in some trials but not in others; None where nothing does."""
        mask = torch.zeros(self.buffer.shape, dtype=torch.bool)
        for row, trained in zip(mask, self.trained, strict=True):
            for name in self.layout.moving:
                if name not in trained:
                    self.layout.view(row, name).fill_(True)
        return mask.to(self.device) if mask.any() else None


class LooseGradients(Gradients):
    """As backward gave them, one tensor for each parameter: nothing large is copied."""

    _found: tuple[Tensor, ...] = ()

    def take(self, found: tuple[Tensor, ...]) -> Tensor:
        """Hold what was found, as ``Gradients.take`` says."""
        self._found = found
        for name, gradient in zip(self.layout.moving, found, strict=True):
            for own, trained in zip(gradient, self.trained, strict=True):
                if name not in trained:
                    own.zero_()
        every = range(len(self.trained))
        return torch.stack([torch.nn.utils.get_total_norm(self.of(trial)) for trial in every])

    def parts(self, flat: Tensor) -> list[Tensor]:
        """Cut the numbers at each parameter."""
        return [self.layout.view(flat, name) for name in self.layout.moving]

    def of(self, trial: int) -> list[Tensor]:
        """Give each parameter's gradient."""
        return [gradient[trial] for gradient in self._found]

    def forget(self) -> None:
        """Free all of them."""
        self._found = ()

    def _views(self, trial: int) -> dict[str, Tensor]:
        return dict(zip(self.layout.moving, self.of(trial), strict=True))


def make_gradients(
    layout: Layout, trained: Sequence[Collection[str]], device: torch.device
) -> Gradients:
    """Choose what costs a device less."""
    loose = device.type == "cpu" and layout.num_moving >= LOOSE_FROM
    return (LooseGradients if loose else FlatGradients)(layout, trained, device)
