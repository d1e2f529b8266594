"""Longformer: as RoBERTa, with attention to the neighbours within a window."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import LongformerConfig, LongformerModel, PretrainedConfig
from transformers import PreTrainedModel as TransformersModel
from transformers.models.longformer.modeling_longformer import (
    LongformerAttention,
    LongformerIntermediate,
    LongformerOutput,
)

from fpt_ray.config import BackboneShape
from fpt_ray.models.families.base import additive
from fpt_ray.models.families.roberta import Roberta, bert_like


class Longformer(Roberta):
    """All attention is local, so the projections for global attention are left out."""

    name = "longformer"
    config = LongformerConfig
    owners: ClassVar = {
        LongformerAttention: "attention",
        LongformerIntermediate: "feed_forward",
        LongformerOutput: "feed_forward",
    }
    prefixes = ("longformer.",)
    fields = (*Roberta.fields, "attention_window")
    attentions = ("eager",)

    def build(self, config: Any) -> TransformersModel:
        """Make the bare backbone, without a pooler."""
        return LongformerModel(config, add_pooling_layer=False)

    def config_from_shape(self, shape: BackboneShape) -> PretrainedConfig:
        """Make the configuration of a model that is known by its shape only."""
        window = shape.details.get("attention_window", 512)
        return LongformerConfig(
            **bert_like(shape),
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            attention_window=[window] * shape.num_layers,
        )

    def unused(self, config: Any) -> Iterable[str]:
        """List the token embeddings and every block's projections for global attention."""
        yield from super().unused(config)
        for layer in range(config.num_hidden_layers):
            for name in ("query_global", "key_global", "value_global"):
                yield f"{self.blocks}.{layer}.attention.self.{name}"

    def resized(
        self, config: PretrainedConfig, num_layers: int | None, num_positions: int | None
    ) -> PretrainedConfig:
        """Copy a configuration, as ``Family.resized`` says, with a window for each block kept."""
        config = super().resized(config, num_layers, num_positions)
        if not isinstance(config.attention_window, int):
            config.attention_window = config.attention_window[: config.num_hidden_layers]
        return config

    def run(self, module: Any, embedded: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the hidden states, as ``Body.run`` says.

        The blocks take whole windows only. Transformers fills the last one with the token
        embedding of padding, which is not there; here it is filled behind the embeddings, with
        zeros that nothing attends to. Windows wider than the sequence are narrowed to its length,
        which reaches the same tokens, so that short sequences are not filled up to a wide one.
        """
        hidden: Tensor = module.embeddings(inputs_embeds=embedded)
        length = hidden.shape[1]
        sides = [min(size // 2, length) for size in module.config.attention_window]
        missing = -length % (2 * math.lcm(*sides))
        real = torch.ones_like(hidden[..., 0], dtype=torch.bool) if mask is None else mask
        real = nn.functional.pad(real, (0, missing))
        hidden = nn.functional.pad(hidden, (0, 0, 0, missing))
        added = additive(real, hidden.dtype)[:, 0, 0]
        for block, side in zip(module.encoder.layer, sides, strict=True):
            block.attention.self.one_sided_attn_window_size = side
            hidden = block(hidden, attention_mask=added, is_index_masked=~real)[0]
        return hidden[:, :length]
