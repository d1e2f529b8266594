"""GPT-2: causal, learned positions, layer norms before attention and feed-forward."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import GPT2Config, GPT2Model, PretrainedConfig
from transformers import PreTrainedModel as TransformersModel
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP, GPT2Attention

from fpt_ray.config import BackboneShape
from fpt_ray.models.families.base import SHARED_FIELDS, Family


class Gpt2(Family):
    """A position table, and a layer norm after the last block."""

    name = "gpt2"
    config = GPT2Config
    blocks = "h"
    embeddings = "wte"
    tables: ClassVar = {"wpe": "positions"}
    positions = "wpe.weight"
    owners: ClassVar = {GPT2Attention: "attention", GPT2MLP: "feed_forward"}
    prefixes = ("transformer.",)
    causal = True
    fields = (
        *SHARED_FIELDS,
        "activation_function",
        "layer_norm_epsilon",
        "scale_attn_weights",
        "scale_attn_by_inverse_layer_idx",
        "reorder_and_upcast_attn",
    )

    def build(self, config: GPT2Config) -> TransformersModel:
        """Make the bare backbone."""
        return GPT2Model(config)

    def config_from_shape(self, shape: BackboneShape) -> PretrainedConfig:
        """Make the configuration of a model that is known by its shape only."""
        return GPT2Config(
            vocab_size=shape.vocab_size,
            n_positions=shape.num_positions or 0,
            n_embd=shape.hidden_size,
            n_layer=shape.num_layers,
            n_head=shape.num_heads,
            n_inner=shape.intermediate_size,
            bos_token_id=None,
            eos_token_id=None,
        )

    def architecture(self, config: Any) -> dict[str, Any]:
        """List what determines a backbone's function, as ``Family.architecture`` says."""
        described = super().architecture(config)
        # A configuration may leave this width to the library's default.
        described["intermediate_size"] = config.n_inner or 4 * config.hidden_size
        return described
