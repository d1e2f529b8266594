"""LSTM layers of several trials."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from fpt_ray.models.folding.stacked import Fold, Stacked
from fpt_ray.models.folding.tables import add_rows


class StackedLSTM(Stacked):
    """``nn.LSTM``, one trial after the other: the recurrence is left to torch's fused kernels.

    The plain module is not called, since it would move its parameters into a buffer of its own.
    """

    def __init__(self, plain: Any, own: Collection[str], fold: Fold) -> None:
        super().__init__(plain, own, fold)
        self.names = tuple(plain._parameters)
        self.directions = 1 + plain.bidirectional
        self.state_shape = (plain.num_layers * self.directions, plain.hidden_size)
        self.bias, self.dropout = plain.bias, plain.dropout

    def forward(self, hidden: Tensor) -> tuple[Tensor, None]:
        """Compute what (trials * batch, seq, features) gives, without the last states."""
        parts = self.fold.split(hidden).unbind()
        weights = zip(*(self.for_each_trial(name) for name in self.names), strict=True)
        outputs = [self._one(part, own) for part, own in zip(parts, weights, strict=True)]
        return torch.cat(outputs), None

    def _one(self, hidden: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
        layers, size = self.state_shape
        state = hidden.new_zeros(layers, len(hidden), size)
        output, _, _ = torch.lstm(
            hidden,
            (state, state),
            weights,
            self.bias,
            layers // self.directions,
            self.dropout,
            self.training,
            self.directions == 2,
            True,
        )
        return output


class StackedStack(Stacked):
    """``Stack`` of LSTM layers: each token gets its trial's row of the position table."""

    positions: Tensor

    def __init__(self, plain: Any, own: Collection[str], fold: Fold) -> None:
        super().__init__(plain, own, fold)
        self.layers = plain.layers

    def forward(self, embedded: Tensor) -> Tensor:
        """Compute the hidden states, (trials * batch, seq, hidden_size) like ``embedded``."""
        rows = self.positions[:, : embedded.shape[1]]
        hidden = add_rows(embedded, rows, self.fold)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden
