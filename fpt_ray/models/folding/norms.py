"""Layer norms of several trials."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from fpt_ray.models.folding.stacked import Fold, Stacked


class StackedLayerNorm(Stacked):
    """``nn.LayerNorm``: normalised together, scaled and shifted by each trial's own values."""

    def __init__(self, plain: Any, own: Collection[str], fold: Fold) -> None:
        super().__init__(plain, own, fold)
        self.shape = plain.normalized_shape
        self.eps = plain.eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise the features of (trials * batch, ..., features)."""
        if self.fold.trials == 1:
            weight, bias = self.single("weight"), self.single("bias")
            return nn.functional.layer_norm(hidden, self.shape, weight, bias, self.eps)
        weight, bias = self.per_row("weight"), self.per_row("bias")
        normed = self.fold.rows(nn.functional.layer_norm(hidden, self.shape, None, None, self.eps))
        assert weight is not None
        scaled = normed * weight if bias is None else torch.addcmul(bias, normed, weight)
        return scaled.view(hidden.shape)


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
