"""BERT: bidirectional, learned positions and token types, layer norms after each part."""

from __future__ import annotations

from typing import ClassVar

from transformers import BertConfig, BertModel, PretrainedConfig
from transformers import PreTrainedModel as TransformersModel
from transformers.models.bert.modeling_bert import BertAttention, BertIntermediate, BertOutput

from fpt_ray.config import BackboneShape
from fpt_ray.models.families.base import SHARED_FIELDS, Family


class Bert(Family):
    """A position table, token types (``other``), and a layer norm after the embeddings."""

    name = "bert"
    config: ClassVar[type[PretrainedConfig]] = BertConfig
    blocks = "encoder.layer"
    embeddings = "embeddings.word_embeddings"
    tables: ClassVar = {
        "embeddings.position_embeddings": "positions",
        "embeddings.token_type_embeddings": "other",
    }
    positions = "embeddings.position_embeddings.weight"
    owners: ClassVar = {
        BertAttention: "attention",
        BertIntermediate: "feed_forward",
        BertOutput: "feed_forward",
    }
    prefixes = ("bert.",)
    fields: ClassVar[tuple[str, ...]] = (
        *SHARED_FIELDS,
        "hidden_act",
        "layer_norm_eps",
        "type_vocab_size",
        "intermediate_size",
    )

    def build(self, config: BertConfig) -> TransformersModel:
        """Make the bare backbone, without a pooler."""
        return BertModel(config, add_pooling_layer=False)

    def config_from_shape(self, shape: BackboneShape) -> PretrainedConfig:
        """Make the configuration of a model that is known by its shape only."""
        return BertConfig(
            vocab_size=shape.vocab_size,
            max_position_embeddings=shape.num_positions or 0,
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            intermediate_size=shape.intermediate_size,
        )
