"""The shapes of known backbones, so that a sweep file is checked without loading one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fpt_ray.config.selectors import ParameterRole

FamilyName = Literal["gpt2", "bert", "roberta", "distilbert", "t5", "longformer", "vit", "llama"]

_WITHOUT_POSITIONS = ("llama",)
"""Families whose positions are no parameters: rotary ones turn queries and keys by fixed angles."""

_WITH_OTHER = ("bert", "roberta", "longformer")
"""Families with token types, which are what the group ``other`` holds."""


@dataclass(frozen=True, slots=True)
class BackboneShape:
    """The sizes of a backbone.

    Attributes:
        family: which architecture it is.
        num_layers: blocks.
        hidden_size: features of a token between the blocks.
        num_heads: attention heads of a block.
        num_positions: the longest sequence that its position table takes; None for a family
            without such a limit.
        vocab_size: rows of the token embedding; 0 for a family without one.
        intermediate_size: hidden features of a block's feed-forward layer.
        details: fields of the family's configuration that the sizes leave open, by
            transformers' names.
    """

    family: FamilyName
    num_layers: int
    hidden_size: int
    num_heads: int
    num_positions: int | None
    vocab_size: int
    intermediate_size: int
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def takes_ids(self) -> bool:
        """Whether it was made for token ids, and so may stand behind an embedding."""
        return self.family != "vit"

    def roles(self) -> tuple[ParameterRole, ...]:
        """List one parameter for each group and layer that an FPT on this backbone has."""
        ends = ["input", "output", "layer_norm"]
        ends += [] if self.family in _WITHOUT_POSITIONS else ["positions"]
        ends += ["other"] if self.family in _WITH_OTHER else []
        groups = ("layer_norm", "attention", "feed_forward")
        blocks = [(group, layer) for layer in range(self.num_layers) for group in groups]
        return (
            *(ParameterRole(group, group, None, 1) for group in ends),
            *(ParameterRole(f"{group}.{layer}", group, layer, 1) for group, layer in blocks),
        )


_GPT2 = BackboneShape("gpt2", 12, 768, 12, 1024, 50257, 3072)
_BERT = BackboneShape("bert", 12, 768, 12, 512, 30522, 3072)
_BERT_LARGE = replace(_BERT, num_layers=24, hidden_size=1024, num_heads=16, intermediate_size=4096)

_GPT2_SHAPES = {
    "gpt2": _GPT2,
    "gpt2-medium": replace(
        _GPT2, num_layers=24, hidden_size=1024, num_heads=16, intermediate_size=4096
    ),
    "gpt2-large": replace(
        _GPT2, num_layers=36, hidden_size=1280, num_heads=20, intermediate_size=5120
    ),
    "gpt2-xl": replace(
        _GPT2, num_layers=48, hidden_size=1600, num_heads=25, intermediate_size=6400
    ),
}
_DISTILGPT2 = replace(_GPT2, num_layers=6)

_BERT_SHAPES = {
    "bert-base-uncased": _BERT,
    "bert-base-cased": replace(_BERT, vocab_size=28996),
    "bert-base-multilingual-uncased": replace(_BERT, vocab_size=105879),
    "bert-base-multilingual-cased": replace(_BERT, vocab_size=119547),
    "bert-base-chinese": replace(_BERT, vocab_size=21128),
    "bert-base-german-cased": replace(_BERT, vocab_size=30000),
    "bert-large-uncased": _BERT_LARGE,
    "bert-large-cased": replace(_BERT_LARGE, vocab_size=28996),
    "bert-large-uncased-whole-word-masking": _BERT_LARGE,
    "bert-large-cased-whole-word-masking": replace(_BERT_LARGE, vocab_size=28996),
}

_ROBERTA = BackboneShape("roberta", 12, 768, 12, 512, 50265, 3072)
_ROBERTA_SHAPES = {
    "roberta-base": _ROBERTA,
    "roberta-large": replace(
        _ROBERTA, num_layers=24, hidden_size=1024, num_heads=16, intermediate_size=4096
    ),
}

_DISTILBERT = BackboneShape("distilbert", 6, 768, 12, 512, 30522, 3072)
_DISTILBERT_SHAPES = {
    "distilbert-base-uncased": _DISTILBERT,
    "distilbert-base-cased": replace(_DISTILBERT, vocab_size=28996),
}

_T5_SHAPES = {
    "t5-small": BackboneShape("t5", 6, 512, 8, None, 32128, 2048),
    "t5-base": BackboneShape("t5", 12, 768, 12, None, 32128, 3072),
    "t5-large": BackboneShape("t5", 24, 1024, 16, None, 32128, 4096),
}

_VIT = BackboneShape("vit", 12, 768, 12, 196, 0, 3072)
_VIT_LARGE = replace(_VIT, num_layers=24, hidden_size=1024, num_heads=16, intermediate_size=4096)
_VIT_SHAPES = {
    "google/vit-base-patch16-224": _VIT,
    "google/vit-base-patch16-224-in21k": _VIT,
    "google/vit-base-patch16-384": replace(_VIT, num_positions=576),
    "google/vit-large-patch16-224": _VIT_LARGE,
    "google/vit-large-patch16-224-in21k": _VIT_LARGE,
}

_LLAMA_SHAPES = {
    "HuggingFaceTB/SmolLM2-135M": BackboneShape(
        "llama",
        *(30, 576, 9, None, 49152, 1536),
        details={
            "num_key_value_heads": 3,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
            "initializer_range": 1 / 24,
        },
    ),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": BackboneShape(
        "llama",
        *(22, 2048, 32, None, 32000, 5632),
        details={"num_key_value_heads": 4, "rms_norm_eps": 1e-5},
    ),
}

_TINY = BackboneShape("gpt2", 2, 32, 2, 64, 128, 128)
_TINY_SHAPES = {
    "tiny-gpt2": _TINY,
    "tiny-bert": replace(_TINY, family="bert"),
    "tiny-roberta": replace(_TINY, family="roberta"),
    "tiny-distilbert": replace(_TINY, family="distilbert"),
    "tiny-t5": replace(_TINY, family="t5", num_positions=None),
    "tiny-longformer": replace(_TINY, family="longformer", details={"attention_window": 16}),
    "tiny-vit": replace(_TINY, family="vit", vocab_size=0),
    "tiny-llama": replace(
        _TINY, family="llama", num_positions=None, details={"num_key_value_heads": 1}
    ),
}

BUILT_IN_SHAPES = {"minilm-l6": BackboneShape("bert", 6, 384, 12, 512, 30522, 1536), **_TINY_SHAPES}

UNTRAINED = tuple(_TINY_SHAPES)
"""Built-in backbones of which no pretrained weights exist."""

BACKBONE_SHAPES: dict[str, BackboneShape] = {
    **BUILT_IN_SHAPES,
    **_GPT2_SHAPES,
    **{f"openai-community/{name}": shape for name, shape in _GPT2_SHAPES.items()},
    "distilgpt2": _DISTILGPT2,
    "distilbert/distilgpt2": _DISTILGPT2,
    **_BERT_SHAPES,
    **{f"google-bert/{name}": shape for name, shape in _BERT_SHAPES.items()},
    "sentence-transformers/all-MiniLM-L6-v2": BUILT_IN_SHAPES["minilm-l6"],
    **_ROBERTA_SHAPES,
    **{f"FacebookAI/{name}": shape for name, shape in _ROBERTA_SHAPES.items()},
    **_DISTILBERT_SHAPES,
    **{f"distilbert/{name}": shape for name, shape in _DISTILBERT_SHAPES.items()},
    **_T5_SHAPES,
    **{f"google-t5/{name}": shape for name, shape in _T5_SHAPES.items()},
    "allenai/longformer-base-4096": BackboneShape("longformer", 12, 768, 12, 4096, 50265, 3072),
    **_VIT_SHAPES,
    **_LLAMA_SHAPES,
}
"""Name or hub id to shape. Source: the config.json of each model on the Hugging Face hub."""
