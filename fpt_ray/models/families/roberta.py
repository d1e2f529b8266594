"""RoBERTa: as BERT, with positions that begin behind the row of padding."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import PretrainedConfig, RobertaConfig, RobertaModel
from transformers import PreTrainedModel as TransformersModel
from transformers.models.roberta.modeling_roberta import (
    RobertaAttention,
    RobertaIntermediate,
    RobertaOutput,
)

from fpt_ray.config import BackboneShape
from fpt_ray.models.families.bert import Bert


class Roberta(Bert):
    """A position table whose first two rows no token gets, token types (``other``)."""

    name = "roberta"
    config: ClassVar[type[PretrainedConfig]] = RobertaConfig
    owners: ClassVar = {
        RobertaAttention: "attention",
        RobertaIntermediate: "feed_forward",
        RobertaOutput: "feed_forward",
    }
    prefixes = ("roberta.",)
    fields: ClassVar[tuple[str, ...]] = (*Bert.fields, "pad_token_id")

    def build(self, config: Any) -> TransformersModel:
        """Make the bare backbone, without a pooler."""
        return RobertaModel(config, add_pooling_layer=False)

    def config_from_shape(self, shape: BackboneShape) -> PretrainedConfig:
        """Make the configuration of a model that is known by its shape only."""
        return RobertaConfig(**bert_like(shape), type_vocab_size=1, layer_norm_eps=1e-5)

    def reserved_rows(self, config: Any) -> int:
        """Count the rows up to that of padding."""
        number: int = config.pad_token_id + 1
        return number


def bert_like(shape: BackboneShape) -> dict[str, Any]:
    """Name a shape's numbers as RoBERTa and Longformer do, with their two unused positions."""
    return {
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": (shape.num_positions or 0) + 2,
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "intermediate_size": shape.intermediate_size,
    }
