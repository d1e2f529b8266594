"""GPT-2: causal, learned positions, layer norms before attention and feed-forward."""

from __future__ import annotations

from transformers import GPT2Config, GPT2Model, PretrainedConfig
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP, GPT2Attention

from fpt_ray.config import BackboneShape
from fpt_ray.models.families.base import Family


def _gpt2_config(shape: BackboneShape) -> PretrainedConfig:
    return GPT2Config(
        vocab_size=shape.vocab_size,
        n_positions=shape.num_positions,
        n_embd=shape.hidden_size,
        n_layer=shape.num_layers,
        n_head=shape.num_heads,
        n_inner=shape.intermediate_size,
        bos_token_id=None,
        eos_token_id=None,
    )


GPT2 = Family(
    name="gpt2",
    config=GPT2Config,
    build=GPT2Model,
    config_from_shape=_gpt2_config,
    blocks="h",
    tables={"wpe": "positions"},
    positions="wpe.weight",
    owners={GPT2Attention: "attention", GPT2MLP: "feed_forward"},
    unused="wte",
    prefixes=("transformer.",),
    causal=True,
    fields=(
        "activation_function",
        "layer_norm_epsilon",
        "scale_attn_weights",
        "scale_attn_by_inverse_layer_idx",
        "reorder_and_upcast_attn",
    ),
)
