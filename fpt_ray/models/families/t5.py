"""The encoder of T5: bidirectional, a relative position bias, layer norms without means."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import PretrainedConfig, T5Config
from transformers import PreTrainedModel as TransformersModel
from transformers.models.t5.modeling_t5 import (
    T5Attention,
    T5DenseActDense,
    T5DenseGatedActDense,
    T5LayerNorm,
    T5Stack,
)

from fpt_ray.config import BackboneShape
from fpt_ray.models.families.base import Family


class T5(Family):
    """The first block's table of biases by distance, which all blocks add, is the positions.

    It knows any distance, so sequences may be of any length.
    """

    name = "t5"
    config = T5Config
    blocks = "block"
    embeddings = "embed_tokens"
    tables: ClassVar = {"block.0.layer.0.SelfAttention.relative_attention_bias": "positions"}
    positions = None
    owners: ClassVar = {
        T5Attention: "attention",
        T5DenseActDense: "feed_forward",
        T5DenseGatedActDense: "feed_forward",
    }
    norms = (T5LayerNorm,)
    prefixes = ("transformer.", "encoder.")
    fields = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "d_kv",
        "d_ff",
        "feed_forward_proj",
        "relative_attention_num_buckets",
        "relative_attention_max_distance",
        "layer_norm_epsilon",
        "initializer_factor",
    )
    # Its bias goes to SDPA as a mask, which the kernels that are chosen under vmap on a CPU cannot
    # differentiate.
    attentions = ("eager",)

    def build(self, config: Any) -> TransformersModel:
        """Make the bare encoder."""
        config.is_encoder_decoder = False
        return T5Stack(config)

    def config_from_shape(self, shape: BackboneShape) -> PretrainedConfig:
        """Make the configuration of a model that is known by its shape only."""
        return T5Config(
            vocab_size=shape.vocab_size,
            d_model=shape.hidden_size,
            d_kv=shape.hidden_size // shape.num_heads,
            d_ff=shape.intermediate_size,
            num_layers=shape.num_layers,
            num_heads=shape.num_heads,
        )
