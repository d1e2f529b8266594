"""Forward and backward passes of several trials through one folded model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fpt_ray.models.cuts import Cut
from fpt_ray.models.folding import Folded
from fpt_ray.training.features import Store
from fpt_ray.training.pack.feeding import PackBatch
from fpt_ray.training.pack.rows import Rows


class Computation:
    """A folded model, and how trials go through it.

    Args:
        model: bound to the trials' values.
        cut: of the inner model, below which activations may be kept; None without one.
        bf16: compute in bfloat16 under autocast.
    """

    def __init__(self, model: Folded, cut: Cut | None, bf16: bool) -> None:
        self.model = model
        self._cut = None if cut is None else cut.moved(model.model)
        self._bf16 = bf16

    def logits(self, batch: PackBatch, held: Tensor | None) -> Tensor:
        """Compute the logits of the trials' batches.

        Args:
            batch: on the device.
            held: (trials, batch, length, features) activations at the cut; None where the batches
                go through the whole model.

        Returns:
            (trials, batch, num_read, num_logits).
        """
        whole = batch.whole
        with torch.autocast(whole.tokens.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            if held is None or self._cut is None:
                logits: Tensor = self.model(whole.tokens, whole.mask)
                return logits
            return self.model.above(self._cut, held, whole.tokens, whole.mask)

    def backward(self, rows: Rows, batch: PackBatch, held: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the gradients of one batch of each trial.

        Args:
            rows: whose leaves the model is bound to; they get the gradients.
            batch: on the device.
            held: as ``logits`` takes it.

        Returns:
            (trials,) mean losses in nats, and (trials,) norms of the gradients.
        """
        logits = self.logits(batch, held)
        losses = decision_losses(logits, batch.whole.targets).mean(dim=1)
        return losses.detach(), rows.differentiate(losses.sum())


def gather(batch: PackBatch, stores: Sequence[Store | None]) -> Tensor | None:
    """Gather the activations at the cut that are kept of the trials' batches.

    Args:
        batch: on the device.
        stores: of each trial, for the split of the batch; all of them or none.

    Returns:
        (trials, batch, length, features), or None where nothing is kept.
    """
    rows = batch.whole.rows
    if rows is None:
        return None
    held = [s.held(batch.of(i), rows[i]) for i, s in enumerate(stores) if s is not None]
    return torch.stack(held) if held else None


def decision_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Compare logits with targets, decision by decision.

    Args:
        logits: (trials, batch, num_read, decisions_per_token * classes).
        targets: (trials, batch, num_read * decisions_per_token) int64.

    Returns:
        (trials, decisions of a trial) cross entropies in nats, float32.
    """
    by_decision = logits.float().reshape(targets.numel(), -1)
    losses = torch.nn.functional.cross_entropy(by_decision, targets.flatten(), reduction="none")
    return losses.view(len(targets), -1)
