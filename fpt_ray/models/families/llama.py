"""Llama and what is built like it: causal, rotary positions, layer norms without means."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import LlamaConfig, LlamaModel, PretrainedConfig
from transformers import PreTrainedModel as TransformersModel
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP, LlamaRMSNorm

from fpt_ray.config import BackboneShape
from fpt_ray.models.families.base import SHARED_FIELDS, Family


class Llama(Family):
    """Positions turn queries and keys by fixed angles: no parameters, and no longest sequence."""

    name = "llama"
    config = LlamaConfig
    blocks = "layers"
    embeddings = "embed_tokens"
    positions = None
    owners: ClassVar = {LlamaAttention: "attention", LlamaMLP: "feed_forward"}
    norms = (LlamaRMSNorm,)
    prefixes = ("model.",)
    causal = True
    fields = (
        *SHARED_FIELDS,
        "intermediate_size",
        "num_key_value_heads",
        "head_dim",
        "hidden_act",
        "rms_norm_eps",
        "rope_parameters",
        "attention_bias",
        "mlp_bias",
    )

    def build(self, config: Any) -> TransformersModel:
        """Make the bare backbone."""
        return LlamaModel(config)

    def config_from_shape(self, shape: BackboneShape) -> PretrainedConfig:
        """Make the configuration of a model that is known by its shape only."""
        return LlamaConfig(
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            intermediate_size=shape.intermediate_size,
            **shape.details,
        )
