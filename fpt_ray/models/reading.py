"""Which tokens a model reads: in which order they come in, and which hidden states go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from fpt_ray.seeding import derive_seed

Read = Literal["last", "first", "mean"]


def read_last(hidden: Tensor, mask: Tensor | None, count: int) -> Tensor:
    """Choose the last ``count`` real tokens of (batch, seq, size): (batch, count, size)."""
    if mask is None:
        return hidden[:, -count:]
    first = mask.sum(dim=1, keepdim=True) - count
    index = first + torch.arange(count, device=mask.device)
    return torch.take_along_dim(hidden, index[:, :, None], dim=1)


def read_first(hidden: Tensor, mask: Tensor | None, count: int) -> Tensor:
    """Choose the first ``count`` tokens of (batch, seq, size); padding comes after them."""
    del mask
    return hidden[:, :count]


def read_mean(hidden: Tensor, mask: Tensor | None, count: int) -> Tensor:
    """Average the real tokens of (batch, seq, size): (batch, 1, size), so ``count`` is 1."""
    del count
    if mask is None:
        return hidden.mean(dim=1, keepdim=True)
    real = torch.where(mask[:, :, None], hidden, 0)
    return real.sum(dim=1, keepdim=True) / mask.sum(dim=1)[:, None, None]


READERS: Mapping[Read, Callable[[Tensor, Tensor | None, int], Tensor]] = {
    "last": read_last,
    "first": read_first,
    "mean": read_mean,
}


def draw_order(seed: int, seq_length: int) -> Tensor:
    """Draw a key for each position of a task's longest sequence, (seq_length,) int64.

    Args:
        seed: the trial's seed.
        seq_length: tokens in the task's longest sequence.
    """
    generator = torch.Generator()
    generator.manual_seed(derive_seed(seed, "token_order"))
    return torch.randperm(seq_length, generator=generator)


def reorder(tokens: Tensor, mask: Tensor | None, keys: Tensor, num_kept: int) -> Tensor:
    """Sort each sequence by the keys of its positions, its last real tokens and padding aside.

    Args:
        tokens: (batch, seq, features), or (batch, seq) ids.
        mask: (batch, seq) bool, False at the padding; None where every token is real.
        keys: from ``draw_order``, for at least ``seq`` positions; or (batch, positions), those of
            each sequence.
        num_kept: how many of the last real tokens stay where they are.

    Returns:
        Like ``tokens``.
    """
    seq_length = tokens.shape[1]
    positions = torch.arange(seq_length, device=tokens.device)
    num_real = seq_length if mask is None else mask.sum(dim=1, keepdim=True)
    stays = positions >= num_real - num_kept
    # What stays sorts after every key, in its own order.
    order = torch.where(stays, keys.shape[-1] + positions, keys[..., :seq_length]).argsort(dim=-1)
    order = order.expand(tokens.shape[:2])
    return torch.take_along_dim(tokens, order if tokens.dim() == 2 else order[..., None], dim=1)
