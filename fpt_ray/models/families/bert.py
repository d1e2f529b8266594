"""BERT: bidirectional, learned positions and token types, layer norms after each part."""

from __future__ import annotations

from transformers import BertConfig, BertModel, PretrainedConfig
from transformers import PreTrainedModel as TransformersModel
from transformers.models.bert.modeling_bert import BertAttention, BertIntermediate, BertOutput

from fpt_ray.config import BackboneShape
from fpt_ray.models.families.base import Family


def _build_bert(config: BertConfig) -> TransformersModel:
    return BertModel(config, add_pooling_layer=False)


def _bert_config(shape: BackboneShape) -> PretrainedConfig:
    return BertConfig(
        vocab_size=shape.vocab_size,
        max_position_embeddings=shape.num_positions,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        intermediate_size=shape.intermediate_size,
    )


BERT = Family(
    name="bert",
    config=BertConfig,
    build=_build_bert,
    config_from_shape=_bert_config,
    blocks="encoder.layer",
    tables={
        "embeddings.position_embeddings": "positions",
        "embeddings.token_type_embeddings": "other",
    },
    positions="embeddings.position_embeddings.weight",
    owners={
        BertAttention: "attention",
        BertIntermediate: "feed_forward",
        BertOutput: "feed_forward",
    },
    unused="embeddings.word_embeddings",
    prefixes=("bert.",),
    causal=False,
    fields=("hidden_act", "layer_norm_eps", "type_vocab_size", "intermediate_size"),
)
