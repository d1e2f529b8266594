"""Notice that training went wrong, at the step where it did."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

EXPLODED_LOSS = 1e4
"""A training loss above this many nats has exploded; a guess among 1,000 classes costs 7."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The step, counted within the interval from 0, and what went wrong there."""

    index: int
    reason: str


class Watch:
    """Record each step's loss and gradient norm, without making an accelerator wait.

    Args:
        num_steps: steps in the interval.
        device: where losses and norms are computed.
        waits: look at all steps together when the interval ends, instead of at each once it is
            recorded, which would stall an accelerator's queue; None waits unless on a CPU.
    """

    def __init__(self, num_steps: int, device: torch.device, waits: bool | None = None) -> None:
        self._waits = device.type != "cpu" if waits is None else waits
        self._recorded = torch.zeros(num_steps if self._waits else 0, 2, device=device)
        self._losses: list[float] = []
        self._num_steps = 0
        self.divergence: Divergence | None = None

    def record(self, loss: Tensor, grad_norm: Tensor) -> bool:
        """Record a step; return whether it is known to have diverged."""
        if self._waits:
            self._recorded[self._num_steps, 0] = loss
            self._recorded[self._num_steps, 1] = grad_norm
        else:
            self._look(self._num_steps, loss.item(), grad_norm.item())
        self._num_steps += 1
        return self.divergence is not None

    def finish(self) -> float | None:
        """Look at what was not looked at yet; return the mean loss, None if diverged or idle."""
        if self._waits:
            for index, (loss, grad_norm) in enumerate(self._recorded[: self._num_steps].tolist()):
                self._look(index, loss, grad_norm)
        finite = [] if self.divergence else self._losses
        return math.fsum(finite) / len(finite) if finite else None

    def _look(self, index: int, loss: float, grad_norm: float) -> None:
        self._losses.append(loss)
        if self.divergence is None and (reason := find_fault(loss, grad_norm)):
            self.divergence = Divergence(index, reason)


def find_fault(loss: float, grad_norm: float) -> str | None:
    """Say what is wrong with a step; None where nothing is."""
    if not math.isfinite(loss):
        return f"the training loss became {loss}"
    if not math.isfinite(grad_norm):
        return f"the gradient norm became {grad_norm}"
    if loss > EXPLODED_LOSS:
        return f"the training loss rose to {loss:.3g}, above {EXPLODED_LOSS:g}"
    return None
