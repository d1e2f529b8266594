"""ViT: bidirectional over image patches, learned positions, layer norms before each part."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, ViTConfig
from transformers import PreTrainedModel as TransformersModel
from transformers.models.vit.modeling_vit import (
    ViTAttention,
    ViTLayer,
    ViTMLP,
    ViTPreTrainedModel,
)

from fpt_ray.config import BackboneShape
from fpt_ray.models.families.base import Family, additive

CLASS_TOKEN = 1
"""Rows of the position table before that of the first patch."""

_OLD_NAMES = (
    (r"^encoder\.layer\.", "layers."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attention.\1."),
    (r"\.attention\.query\.", ".attention.q_proj."),
    (r"\.attention\.key\.", ".attention.k_proj."),
    (r"\.attention\.value\.", ".attention.v_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)
"""How transformers named a block's parameters before version 5, in the order of replacing."""


class VitPositions(nn.Module):
    """Add each token's row of the position table.

    The table is as checkpoints hold it, (1, 1 + positions, hidden_size): its first row belongs to
    the class token, which is not there.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        rows = CLASS_TOKEN + num_patches(config)
        self.position_embeddings = nn.Parameter(torch.empty(1, rows, config.hidden_size))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, embedded: Tensor) -> Tensor:
        """Place (batch, seq, hidden_size)."""
        rows = self.position_embeddings.narrow(1, CLASS_TOKEN, embedded.shape[1])
        placed: Tensor = self.dropout(embedded + rows)
        return placed


class VitBlocks(ViTPreTrainedModel):  # type: ignore[no-untyped-call]
    """A ViT behind its patches: positions, blocks and the last layer norm."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.embeddings = VitPositions(config)
        self.layers = nn.ModuleList([ViTLayer(config) for _ in range(config.num_hidden_layers)])
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, embedded: Tensor, attended: Tensor | None) -> Tensor:
        """Compute the hidden states of (batch, seq, hidden_size)."""
        hidden = self.embeddings(embedded)
        for layer in self.layers:
            hidden = layer(hidden, attended)
        normed: Tensor = self.layernorm(hidden)
        return normed

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, VitPositions):
            deviation = self.config.initializer_range
            nn.init.trunc_normal_(module.position_embeddings, std=deviation)


class Vit(Family):
    """What lies behind the patches; there is no class token, and no embedding of tokens."""

    name = "vit"
    config = ViTConfig
    blocks = "layers"
    embeddings = None
    tables: ClassVar = {"embeddings": "positions"}
    positions = "embeddings.position_embeddings"
    owners: ClassVar = {ViTAttention: "attention", ViTMLP: "feed_forward"}
    prefixes = ("vit.",)
    fields = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_act",
        "layer_norm_eps",
        "qkv_bias",
        "initializer_range",
    )
    takes_ids = False

    def build(self, config: Any) -> TransformersModel:
        """Make the bare backbone."""
        return VitBlocks(config)

    def config_from_shape(self, shape: BackboneShape) -> PretrainedConfig:
        """Make the configuration of a model that is known by its shape only."""
        config = ViTConfig(
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            intermediate_size=shape.intermediate_size,
        )
        return self.resized(config, None, shape.num_positions)

    def num_positions(self, config: PretrainedConfig) -> int:
        """Tell the longest sequence: the patches of an image, or more where that was asked."""
        return num_patches(config)

    def reserved_rows(self, config: PretrainedConfig) -> int:
        """Count the class token's row."""
        return CLASS_TOKEN

    def parameter_name(self, published: str) -> str:
        """Tell the backbone's own name of a checkpoint's parameter, however old its name is."""
        name = super().parameter_name(published)
        for old, new in _OLD_NAMES:
            name = re.sub(old, new, name)
        return name

    def architecture(self, config: PretrainedConfig) -> dict[str, Any]:
        """List what determines a backbone's function, as ``Family.architecture`` says."""
        return {**super().architecture(config), "num_positions": num_patches(config)}

    def run(self, module: nn.Module, embedded: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the hidden states, as ``Body.run`` says."""
        attended = None if mask is None else additive(mask, embedded.dtype)
        hidden: Tensor = module(embedded, attended)
        return hidden


def num_patches(config: Any) -> int:
    """Count an image's patches, or the positions that ``Family.resized`` wrote instead."""
    resized: int | None = getattr(config, "max_position_embeddings", None)
    if resized is not None:
        return resized - CLASS_TOKEN
    height, width = _pair(config.image_size)
    patch_height, patch_width = _pair(config.patch_size)
    return (height // patch_height) * (width // patch_width)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
