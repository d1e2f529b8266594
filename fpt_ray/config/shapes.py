"""Find the shape of any backbone that a sweep file may name, without torch or transformers."""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from fpt_ray.config.backbones import BACKBONE_SHAPES, BackboneShape
from fpt_ray.errors import ModelError


def known_shape(backbone: str) -> BackboneShape | None:
    """Look a backbone up in a local directory, the shipped table, or the hub's cache.

    Args:
        backbone: a local directory, a built-in name or a hub id.

    Returns:
        Its shape; None for a hub id that is neither in the table nor cached, and for other
        architectures.

    Raises:
        ModelError: if it can be nothing of these, or its config.json cannot be read.
    """
    if Path(backbone).expanduser().is_dir():
        return _read_shape(Path(backbone).expanduser() / "config.json")
    if backbone in BACKBONE_SHAPES:
        return BACKBONE_SHAPES[backbone]
    if cached := cached_config(backbone):
        return _read_shape(cached)
    if not _may_be_hub_id(backbone):
        raise _unknown(backbone)
    return None


def cached_config(backbone: str) -> Path | None:
    """Find the newest config.json that the hub's cache holds for a model."""
    folder = _hub_cache() / f"models--{backbone.replace('/', '--')}" / "snapshots"
    configs = sorted(folder.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    return configs[-1] if configs else None


def _hub_cache() -> Path:
    """Locate the hub's cache by the variables that huggingface_hub reads, in its order."""
    home = os.environ.get("HF_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"
    )
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(cache or Path(home, "hub")).expanduser()


def _may_be_hub_id(backbone: str) -> bool:
    owner, slash, name = backbone.partition("/")
    return bool(owner and slash and name) and "/" not in name and owner not in (".", "..", "~")


def _unknown(backbone: str) -> ModelError:
    near = difflib.get_close_matches(backbone, BACKBONE_SHAPES, n=1, cutoff=0.6)
    built_in = "a built-in name (minilm-l6, tiny-gpt2, tiny-bert, ...)"
    fix = f"{built_in}, a hub id (owner/name) or a directory"
    return ModelError(
        f"there is no backbone {backbone!r}: it is no directory and no known name",
        fix=f"{near[0]}; or {fix}" if near else fix,
    )


def _read_shape(config: Path) -> BackboneShape | None:
    try:
        fields: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
        return _shape_of(fields)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(
            f"the backbone's {config} cannot be read: {reason}",
            fix="name the directory that holds config.json and the weights",
        ) from error


def _shape_of(fields: dict[str, Any]) -> BackboneShape | None:
    """Read the fields of a config.json; what it leaves out is transformers' default."""
    family = fields["model_type"]
    if family not in _FAMILIES:
        return None
    default, names = _FAMILIES[family]
    sizes: dict[str, Any] = {
        ours: int(fields[theirs]) for ours, theirs in names.items() if theirs in fields
    }
    shape = replace(default, **sizes)
    if family == "gpt2":
        return replace(shape, intermediate_size=fields.get("n_inner") or 4 * shape.hidden_size)
    if family in ("roberta", "longformer"):
        return replace(shape, num_positions=_behind_padding(fields))
    return replace(shape, num_positions=_num_patches(fields)) if family == "vit" else shape


def _behind_padding(fields: dict[str, Any]) -> int:
    """Count the rows of a position table behind that of padding, where the first token's is."""
    rows, padding = fields.get("max_position_embeddings", 512), fields.get("pad_token_id", 1)
    return int(rows) - int(padding) - 1


def _num_patches(fields: dict[str, Any]) -> int:
    """Count the patches of an image."""
    height, width = _pair(fields.get("image_size", 224))
    patch_height, patch_width = _pair(fields.get("patch_size", 16))
    return (height // patch_height) * (width // patch_width)


def _pair(size: int | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


_SHARED_FIELDS = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
}
_WITH_IDS = {**_SHARED_FIELDS, "vocab_size": "vocab_size"}
_GPT2_FIELDS = {
    "num_layers": "n_layer",
    "hidden_size": "n_embd",
    "num_heads": "n_head",
    "num_positions": "n_positions",
    "vocab_size": "vocab_size",
}
_DISTILBERT_FIELDS = {
    "num_layers": "n_layers",
    "hidden_size": "dim",
    "num_heads": "n_heads",
    "num_positions": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "intermediate_size": "hidden_dim",
}
_T5_FIELDS = {
    "num_layers": "num_layers",
    "hidden_size": "d_model",
    "num_heads": "num_heads",
    "vocab_size": "vocab_size",
    "intermediate_size": "d_ff",
}

_FAMILIES: dict[str, tuple[BackboneShape, dict[str, str]]] = {
    "gpt2": (BACKBONE_SHAPES["gpt2"], _GPT2_FIELDS),
    "bert": (
        BACKBONE_SHAPES["bert-base-uncased"],
        {**_WITH_IDS, "num_positions": "max_position_embeddings"},
    ),
    "roberta": (BACKBONE_SHAPES["roberta-base"], _WITH_IDS),
    "distilbert": (BACKBONE_SHAPES["distilbert-base-uncased"], _DISTILBERT_FIELDS),
    "t5": (BACKBONE_SHAPES["t5-small"], _T5_FIELDS),
    "longformer": (
        replace(BACKBONE_SHAPES["allenai/longformer-base-4096"], vocab_size=30522),
        _WITH_IDS,
    ),
    "vit": (BACKBONE_SHAPES["google/vit-base-patch16-224"], _SHARED_FIELDS),
    "llama": (BackboneShape("llama", 32, 4096, 32, None, 32000, 11008), _WITH_IDS),
}
"""Family to the shape of transformers' default configuration, and its names of our sizes."""
