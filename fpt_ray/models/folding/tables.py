"""Tables of several trials: embeddings and positions."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from fpt_ray.models.families.vit import CLASS_TOKEN
from fpt_ray.models.folding.stacked import Fold, Stacked


class StackedEmbedding(Stacked):
    """``nn.Embedding``; ids that all sequences share give each sequence its trial's rows.

    A row of padding, which plain embeddings do not train, is one that no token of a sequence
    model has.
    """

    weight: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """Look up (trials * batch, ...) ids, or (seq,) or (1, seq) ids for all sequences.

        Returns:
            (trials * batch, ..., features).
        """
        if self.fold.trials == 1:
            return nn.functional.embedding(ids, self.weight.squeeze(0))
        if ids.dim() < 2 or ids.shape[0] == 1:
            return self.fold.spread(look_up_shared(self.weight, ids.flatten()))
        return look_up(self.weight, ids, self.fold)


class StackedOneHotLinear(Stacked):
    """``OneHotLinear``: a row of the transposed weights, and the bias."""

    weight: Tensor
    bias: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """Compute (trials * batch, seq, out_features) of (trials * batch, seq) ids."""
        if self.fold.trials == 1:
            return nn.functional.embedding(ids, self.single("weight").T) + self.single("bias")
        table = self.weight.mT
        own = "weight" in self.own
        chosen = look_up(table, ids, self.fold) if own else nn.functional.embedding(ids, table)
        return (self.fold.rows(chosen) + self.per_row("bias")).view(chosen.shape)


class StackedRelativeBias(Stacked):
    """T5's table of biases by distance; the trials' heads stand side by side."""

    weight: Tensor

    def forward(self, distances: Tensor) -> Tensor:
        """Look up (query, key) distances: (query, key, trials * heads)."""
        biases = look_up_shared(self.weight, distances.flatten())
        return biases.movedim(0, 1).reshape(*distances.shape, -1)


class BiasPerSequence:
    """T5's bias of attention scores, for each sequence that of its trial.

    Args:
        plain: computes (1, heads, query, key) from the heads of the table.
        fold: how batches are made of trials.
    """

    def __init__(self, plain: Callable[..., Tensor], fold: Fold) -> None:
        self._plain = plain
        self._fold = fold

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Compute (trials * batch, heads, query, key)."""
        bias = self._plain(*args, **kwargs)[0]
        return self._fold.spread(self._fold.split(bias))


class StackedVitPositions(Stacked):
    """``VitPositions``: each token gets its trial's row of the position table."""

    position_embeddings: Tensor

    def __init__(self, plain: Any, own: Collection[str], fold: Fold) -> None:
        super().__init__(plain, own, fold)
        self.dropout = plain.dropout

    def forward(self, embedded: Tensor) -> Tensor:
        """Place (trials * batch, seq, hidden_size)."""
        rows = self.position_embeddings.narrow(2, CLASS_TOKEN, embedded.shape[1])
        placed: Tensor = self.dropout(add_rows(embedded, rows[:, 0], self.fold))
        return placed


def look_up(table: Tensor, ids: Tensor, fold: Fold) -> Tensor:
    """Look up each sequence's ids in its trial's table.

    Args:
        table: (trials, rows, features), of any strides.
        ids: (trials * batch, ...).
        fold: how the batch is made of trials.

    Returns:
        (trials * batch, ..., features).
    """
    parts = fold.split(ids)
    # One after the other: a single look-up would copy tables that are parts of a larger buffer.
    chosen = [nn.functional.embedding(*pair) for pair in zip(parts, table.unbind(), strict=True)]
    return torch.cat(chosen)


def look_up_shared(table: Tensor, ids: Tensor) -> Tensor:
    """Look up the same (n,) ids in all (trials, rows, features) tables: (trials, n, features)."""
    return table.index_select(1, ids)


def add_rows(embedded: Tensor, rows: Tensor, fold: Fold) -> Tensor:
    """Add each trial's (trials, seq, features) rows to (trials * batch, seq, features)."""
    split = fold.split(embedded)
    return (split + rows.unsqueeze(1)).flatten(0, 1)
