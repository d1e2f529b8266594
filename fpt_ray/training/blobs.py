"""A checkpoint as bytes: tensors by name and one JSON document, in safetensors' format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from fpt_ray.errors import CheckpointError

_KEY = "fpt_ray"


@dataclass(frozen=True, slots=True)
class Blob:
    """The content of a checkpoint."""

    tensors: Mapping[str, Tensor]
    document: Mapping[str, Any]


def pack(tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> bytes:
    """Write tensors and a JSON document into one safetensors file."""
    values = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {_KEY: json.dumps(document, sort_keys=True, allow_nan=False)}
    return safetensors.torch.save(values, metadata=metadata)


def unpack(data: bytes, kind: str) -> Blob:
    """Read what ``pack`` wrote.

    Args:
        data: the file.
        kind: the document's ``kind`` that is expected.

    Raises:
        CheckpointError: the file is damaged or of another kind.
    """
    try:
        tensors = safetensors.torch.load(data)
        header_size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + header_size])
        document = json.loads(header["__metadata__"][_KEY])
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"the {kind} checkpoint is damaged ({error})",
            fix="delete the file; the trial then starts from an earlier state",
        ) from error
    if document.get("kind") != kind:
        raise CheckpointError(
            f"this is a {document.get('kind')} checkpoint, not a {kind} checkpoint",
            fix=f"give the trial's {kind}.safetensors",
        )
    return Blob(tensors, document)


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint whose tensors are not those of this trial.

    Raises:
        CheckpointError: names or shapes differ.
    """
    fix = "delete the trial's folder, or restore the settings that it was trained with"
    if odd := sorted(set(found) ^ set(expected)):
        missing = odd[0] in expected
        what = f"the checkpoint {'lacks' if missing else 'has the unexpected'} tensor {odd[0]}"
        raise CheckpointError(what, fix=fix)
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            shapes = f"{tuple(found[name].shape)}, not {tuple(tensor.shape)}"
            raise CheckpointError(f"the checkpoint's {name} has the shape {shapes}", fix=fix)
