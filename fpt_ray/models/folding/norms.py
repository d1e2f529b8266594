"""Layer norms of several trials."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from fpt_ray.models.folding.stacked import Fold, Stacked

LOOPED_NUMBERS = 2**14
"""From so many numbers of a trial on, CPUs normalise one trial after the other.

Torch's fused kernels, called for each trial, took 0.37 times the time of normalising all trials
together at 16 trials of 160 x 768 numbers, 0.7 times at 8 of 160 x 384, 0.9 times at 4 of
160 x 128, and 3 times at 32 of 20 x 64.
"""


class StackedLayerNorm(Stacked):
    """``nn.LayerNorm``: scaled and shifted by each trial's own values."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, plain: Any, own: Collection[str], fold: Fold) -> None:
        super().__init__(plain, own, fold)
        self.shape = plain.normalized_shape
        self.eps = plain.eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise the features of (trials * batch, ..., features)."""
        return self._at_once(hidden) if self._pays(hidden) else self._one_by_one(hidden)

    def _pays(self, hidden: Tensor) -> bool:
        """Choose a way; on CPUs whatever the number of trials, since the two round differently."""
        if len(self.shape) > 1:
            return False
        if hidden.is_cpu:
            return hidden.numel() < LOOPED_NUMBERS * self.fold.trials
        return self.fold.trials > 1

    def _at_once(self, hidden: Tensor) -> Tensor:
        weight = self.per_row("weight")
        bias = None if self.bias is None else self.per_row("bias")
        rows = self.fold.rows(hidden).to(weight.dtype)
        normed: Tensor = _ScaledNorm.apply(rows, weight, bias, self.eps)
        return normed.view(hidden.shape)

    def _one_by_one(self, hidden: Tensor) -> Tensor:
        parts = self.fold.split(hidden).unbind()
        values = zip(self.for_each_trial("weight"), self.for_each_trial("bias"), strict=True)
        normed = [
            nn.functional.layer_norm(part, self.shape, weight, bias, self.eps)
            for part, (weight, bias) in zip(parts, values, strict=True)
        ]
        return normed[0] if len(normed) == 1 else torch.cat(normed)


class _ScaledNorm(torch.autograd.Function):
    """Layer norm of all trials in few kernels, which keeps as much for the gradient as torch's.

    Torch would keep the rows for the norm's gradient, and the normalised rows for the weight's.
    Here the normalised rows do for both: their own norm has mean 0 and deviation 1.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
        """Normalise (trials, rows, features); scale and shift by (trials, 1, features)."""
        normed, _, inverse = torch.native_layer_norm(rows, rows.shape[-1:], None, None, eps)
        ctx.save_for_backward(normed, inverse, weight)
        return normed * weight if bias is None else torch.addcmul(bias, normed, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of the rows, and of what trials have of their own."""
        normed, inverse, weight = ctx.saved_tensors
        of_rows = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            mean, one = torch.zeros_like(inverse), torch.ones_like(inverse)
            args = (grad * weight, normed, normed.shape[-1:], mean, one, None, None)
            needed = (True, False, False)
            of_rows = torch.ops.aten.native_layer_norm_backward(*args, needed)[0].mul_(inverse)
        if ctx.needs_input_grad[1]:
            of_weight = (grad * normed).sum(1, keepdim=True)
        if ctx.needs_input_grad[2]:
            of_bias = grad.sum(1, keepdim=True)
        return of_rows, of_weight, of_bias, None


class StackedRMSNorm(Stacked):
    """A layer norm without means: T5's, Llama's and torch's."""

    weight: Tensor

    def __init__(self, plain: Any, own: Collection[str], fold: Fold) -> None:
        super().__init__(plain, own, fold)
        self.eps = plain.eps if isinstance(plain, nn.RMSNorm) else plain.variance_epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise the features of (trials * batch, ..., features), in float32."""
        shape = hidden.shape[-1:]
        if self.fold.trials == 1:
            return nn.functional.rms_norm(hidden.float(), shape, self.weight.squeeze(0), self.eps)
        normed = nn.functional.rms_norm(hidden.float(), shape, None, self.eps)
        return (self.fold.rows(normed) * self.weight.unsqueeze(1)).view(hidden.shape)
