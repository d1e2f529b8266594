"""The shapes of known backbones, so that a sweep file is checked without loading one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fpt_ray.config.selectors import ParameterRole


@dataclass(frozen=True, slots=True)
class BackboneShape:
    """The sizes of a backbone.

    Attributes:
        family: which architecture it is.
        num_layers: blocks.
        hidden_size: features of a token between the blocks.
        num_heads: attention heads of a block.
        num_positions: length of the position table, the longest sequence it takes.
        vocab_size: rows of the token embedding.
        intermediate_size: hidden features of a block's feed-forward layer.
    """

    family: Literal["gpt2", "bert"]
    num_layers: int
    hidden_size: int
    num_heads: int
    num_positions: int
    vocab_size: int
    intermediate_size: int

    def roles(self) -> tuple[ParameterRole, ...]:
        """List one parameter for each group and layer that an FPT on this backbone has."""
        ends = ["input", "output", "positions", "layer_norm"]
        # GPT-2 has no token types; they are what BERT's "other" holds.
        ends += ["other"] if self.family == "bert" else []
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

BUILT_IN_SHAPES = {
    "minilm-l6": BackboneShape("bert", 6, 384, 12, 512, 30522, 1536),
    "tiny-gpt2": BackboneShape("gpt2", 2, 32, 2, 64, 128, 128),
    "tiny-bert": BackboneShape("bert", 2, 32, 2, 64, 128, 128),
}

UNTRAINED = ("tiny-gpt2", "tiny-bert")
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
}
"""Name or hub id to shape. Source: the config.json of each model on the Hugging Face hub."""
