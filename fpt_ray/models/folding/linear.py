"""Linear layers of several trials."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fpt_ray.models.folding.stacked import Stacked


class StackedLinear(Stacked):
    """``nn.Linear``: a batched matrix product where trials have weights of their own."""

    weight: Tensor
    bias: Tensor | None

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute (trials * batch, ..., out_features) of (trials * batch, ..., in_features)."""
        if self.fold.trials == 1:
            return nn.functional.linear(tokens, self.single("weight"), self.single("bias"))
        return self._product(tokens, self.weight.mT)

    def _product(self, tokens: Tensor, matrix: Tensor) -> Tensor:
        """Multiply by (trials, in, out) or (in, out), and add the bias."""
        rows = self.fold.rows(tokens)
        if self.bias is None:
            product = rows @ matrix
        elif self.own >= {"weight", "bias"}:
            product = torch.baddbmm(self.per_row("bias"), rows, matrix)
        else:
            product = rows @ matrix
            product = product + self.per_row("bias").to(product.dtype)
        return product.view(*tokens.shape[:-1], product.shape[-1])


class StackedConv1D(StackedLinear):
    """``Conv1D`` of transformers: a linear layer whose weights are (in, out)."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute (trials * batch, ..., out_features) of (trials * batch, ..., in_features)."""
        if self.fold.trials == 1:
            return nn.functional.linear(tokens, self.single("weight").T, self.single("bias"))
        return self._product(tokens, self.weight)


class SequenceFirstLinear(StackedLinear):
    """A linear layer whose input has its sequences in the second dimension."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute (seq, trials * batch, out_features) of (seq, trials * batch, in_features)."""
        return super().forward(tokens.transpose(0, 1)).transpose(0, 1)
