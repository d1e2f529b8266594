"""Notice which trial of a pack went wrong, at the step where it did."""

from __future__ import annotations

import torch
from torch import Tensor

from fpt_ray.training.divergence import Divergence, find_fault


class PackWatch:
    """Record each step's losses and gradient norms, without making an accelerator wait.

    Args:
        num_steps: the most steps that will be recorded.
        num_trials: trials of the pack.
        device: where losses and norms are computed.
        waits: look at all steps together when the interval ends, instead of at each once it is
            recorded; None waits unless on a CPU.

    Attributes:
        num_steps: steps recorded so far.
        losses: of each trial, in nats, of the steps that were looked at.
        divergences: of each trial, the first; None where there is none.
    """

    def __init__(
        self, num_steps: int, num_trials: int, device: torch.device, waits: bool | None = None
    ) -> None:
        self._waits = device.type != "cpu" if waits is None else waits
        shape = (num_steps if self._waits else 0, 2, num_trials)
        self._recorded = torch.zeros(shape, device=device)
        self.num_steps = 0
        self.losses: list[list[float]] = [[] for _ in range(num_trials)]
        self.divergences: list[Divergence | None] = [None] * num_trials

    def record(self, losses: Tensor, norms: Tensor) -> frozenset[int]:
        """Record a step.

        Args:
            losses: (trials,) in nats.
            norms: (trials,) of the gradients before clipping.

        Returns:
            The trials that are known to have diverged.
        """
        if self._waits:
            recorded = self._recorded[self.num_steps]
            recorded[0].copy_(losses)
            recorded[1].copy_(norms)
        else:
            self._look(self.num_steps, losses.tolist(), norms.tolist())
        self.num_steps += 1
        return frozenset(i for i, found in enumerate(self.divergences) if found is not None)

    def finish(self) -> None:
        """Look at what was not looked at yet."""
        if self._waits:
            for index, (losses, norms) in enumerate(self._recorded[: self.num_steps].tolist()):
                self._look(index, losses, norms)

    def _look(self, index: int, losses: list[float], norms: list[float]) -> None:
        for trial, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
            self.losses[trial].append(loss)
            if self.divergences[trial] is None and (reason := find_fault(loss, norm)):
                self.divergences[trial] = Divergence(index, reason)
