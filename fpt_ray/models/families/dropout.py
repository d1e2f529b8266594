"""Set dropout everywhere in a model, also where it is not a module."""

from __future__ import annotations

from torch import nn
from transformers.models.llama.modeling_llama import LlamaAttention
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.vit.modeling_vit import ViTAttention

_ATTRIBUTES: dict[type[nn.Module], str] = {
    LlamaAttention: "attention_dropout",
    LongformerSelfAttention: "dropout",
    T5Attention: "dropout",
    ViTAttention: "attention_dropout",
    nn.Dropout: "p",
}
"""Type of each module that drops something, with the attribute that holds the probability."""


def set_dropout(model: nn.Module, probability: float) -> None:
    """Set every dropout of a model, that of the attention weights included.

    Args:
        model: any module.
        probability: in [0, 1).
    """
    for module in model.modules():
        attribute = _ATTRIBUTES.get(type(module))
        if attribute is not None:
            setattr(module, attribute, probability)
