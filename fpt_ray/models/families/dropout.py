"""Set dropout everywhere in a model, also where it is not a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.models.llama.modeling_llama import LlamaAttention
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.vit.modeling_vit import ViTAttention

_ATTRIBUTES: dict[type[nn.Module], str] = {
    LlamaAttention: "attention_dropout",
    LongformerSelfAttention: "dropout",
    T5Attention: "dropout",
    ViTAttention: "attention_dropout",
}
"""Type of each module that drops something by a function, with the attribute that says how much."""

_LEVELS = 2**16
"""Probabilities that a mask can have: four of its numbers come from one random word of 64 bits."""


class Dropout(nn.Dropout):
    """``nn.Dropout`` whose masks cost a CPU a fifth of the time, and are not kept.

    Torch's took an eighth of a training step of MiniLM on CPUs. Here the backward pass draws the
    mask again. Probabilities are rounded to multiples of 2**-16. Elsewhere than on CPUs it is
    torch's own.
    """

    def forward(self, hidden: Tensor) -> Tensor:
        """Zero numbers at random in training, and scale the others so that the mean stays."""
        if not self.training or not self.p or not hidden.is_cpu:
            return super().forward(hidden)
        dropped: Tensor = _DroppedOnCpu.apply(hidden, self.p)
        return dropped


class _DroppedOnCpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, probability: float) -> Tensor:
        seed = int(torch.randint(2**63 - 1, ()))
        num_dropped = min(round(probability * _LEVELS), _LEVELS - 1)
        ctx.draw = lambda like: _draw_noise(like, num_dropped, seed)
        noise: Tensor = ctx.draw(hidden)
        return noise.mul_(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        draw: Callable[[Tensor], Tensor] = ctx.draw
        return draw(grad).mul_(grad), None


def _draw_noise(like: Tensor, num_dropped: int, seed: int) -> Tensor:
    """Draw what numbers are multiplied by, of the shape and type of a tensor."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64)
    words.random_(-(2**63), None, generator=generator)
    noise = words.view(torch.int16)[: like.numel()].float()
    noise.ge_(num_dropped - _LEVELS // 2).mul_(_LEVELS / (_LEVELS - num_dropped))
    return noise.to(like.dtype).view(like.shape)


def set_dropout(model: nn.Module, probability: float) -> None:
    """Set every dropout of a model, that of the attention weights included.

    Args:
        model: any module; its ``nn.Dropout`` modules are exchanged for ``Dropout``.
        probability: in [0, 1).
    """
    for module in model.modules():
        attribute = _ATTRIBUTES.get(type(module))
        if attribute is not None:
            setattr(module, attribute, probability)
        for name, child in module._modules.items():
            if isinstance(child, nn.Dropout):
                setattr(module, name, Dropout(probability))
