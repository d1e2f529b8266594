"""DistilBERT: BERT without token types."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import DistilBertConfig, DistilBertModel, PretrainedConfig
from transformers import PreTrainedModel as TransformersModel
from transformers.models.distilbert.modeling_distilbert import FFN, DistilBertSelfAttention

from fpt_ray.config import BackboneShape
from fpt_ray.models.families.base import SHARED_FIELDS, Family


class DistilBert(Family):
    """A position table, and a layer norm after the embeddings."""

    name = "distilbert"
    config = DistilBertConfig
    blocks = "transformer.layer"
    embeddings = "embeddings.word_embeddings"
    tables: ClassVar = {"embeddings.position_embeddings": "positions"}
    positions = "embeddings.position_embeddings.weight"
    owners: ClassVar = {DistilBertSelfAttention: "attention", FFN: "feed_forward"}
    prefixes = ("distilbert.",)
    fields = (*SHARED_FIELDS, "activation", "hidden_dim", "sinusoidal_pos_embds")

    def build(self, config: Any) -> TransformersModel:
        """Make the bare backbone."""
        return DistilBertModel(config)

    def config_from_shape(self, shape: BackboneShape) -> PretrainedConfig:
        """Make the configuration of a model that is known by its shape only."""
        return DistilBertConfig(
            vocab_size=shape.vocab_size,
            max_position_embeddings=shape.num_positions or 0,
            dim=shape.hidden_size,
            n_layers=shape.num_layers,
            n_heads=shape.num_heads,
            hidden_dim=shape.intermediate_size,
        )
