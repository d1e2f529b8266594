"""Memory-map a backbone's weights from any of the formats in which they are published."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fpt_ray.errors import ModelError

_SINGLE = ("model.safetensors", "pytorch_model.bin")
_SHARDED = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_LEGACY_LEAVES = {"gamma": "weight", "beta": "bias"}


def has_weights(folder: Path) -> bool:
    """Tell whether a folder holds weights in a supported format."""
    return any((folder / name).is_file() for name in (*_SINGLE, *_SHARDED))


def checkpoint_files(folder: Path) -> tuple[Path, ...]:
    """List the files that hold a folder's weights, the safe format first.

    Raises:
        ModelError: there is none, or a listed shard is missing.
    """
    for single, index in zip(_SINGLE, _SHARDED, strict=True):
        if (folder / single).is_file():
            return (folder / single,)
        if (folder / index).is_file():
            shards = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"]
            files = tuple(folder / name for name in sorted(set(shards.values())))
            missing = [file.name for file in files if not file.is_file()]
            if missing:
                raise _unusable(folder, f"lacks the shard {missing[0]} that {index} lists")
            return files
    raise _unusable(folder, f"holds none of {', '.join((*_SINGLE, *_SHARDED))}")


def map_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Map a safetensors file: tensors that are read on first use and shared through the page cache.

    The mapping is private: writing to a tensor changes neither the file nor another process.

    Returns:
        The tensors by name, and the file's own metadata.

    Raises:
        ModelError: the file is damaged.
    """
    try:
        with safe_open(str(file), framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return tensors, dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _unusable(file, f"is no readable safetensors file ({error})") from error


def map_checkpoint(files: Collection[Path]) -> dict[str, Tensor]:
    """Map all of a checkpoint's files into one dictionary.

    Raises:
        ModelError: a file is damaged.
    """
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= map_safetensors(file)[0] if file.suffix == ".safetensors" else _map_bin(file)
    return tensors


def select(
    tensors: Mapping[str, Tensor],
    wanted: Mapping[str, torch.Size],
    own_name: Callable[[str], str],
    folder: Path,
) -> dict[str, Tensor]:
    """Pick a backbone's parameters out of a checkpoint, under the backbone's own names.

    Args:
        tensors: a checkpoint's tensors, possibly of a larger model and with legacy names.
        wanted: shape of every parameter of the backbone.
        own_name: tells the backbone's name of a checkpoint's parameter.
        folder: where the checkpoint is, for messages.

    Raises:
        ModelError: a parameter is missing or has another shape.
    """
    renamed = {_without_legacy(own_name(name)): tensor for name, tensor in tensors.items()}
    missing = [name for name in wanted if name not in renamed]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise _unusable(folder, f"lacks {len(missing)} of the backbone's parameters: {shown}")
    for name, shape in wanted.items():
        if renamed[name].shape != shape:
            found = tuple(renamed[name].shape)
            raise _unusable(folder, f"has {name} of shape {found}, not {tuple(shape)}")
    return {name: renamed[name] for name in wanted}


def _without_legacy(name: str) -> str:
    path, _, leaf = name.rpartition(".")
    return f"{path}.{_LEGACY_LEAVES.get(leaf, leaf)}" if path else name


def _map_bin(file: Path) -> dict[str, Tensor]:
    try:
        loaded = _load_bin(file)
    except Exception as error:
        raise _unusable(file, f"is no readable torch checkpoint ({error})") from error
    return {name: value for name, value in loaded.items() if isinstance(value, Tensor)}


def _load_bin(file: Path) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except RuntimeError:
        # Checkpoints from before torch 1.6 are no zip archives and cannot be mapped.
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    return loaded


def _unusable(place: Path, what: str) -> ModelError:
    return ModelError(
        what, where=str(place), fix="download the backbone again, or give another directory"
    )
