"""Weights that trials share: memory-mapped, hashed once, and placed on each device once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from fpt_ray.models.checkpoint import checkpoint_files, map_checkpoint, map_safetensors, select
from fpt_ray.node_cache import cache_dir, write_once

_DIGESTS = "digests"

Signature = tuple[tuple[Path, int, int], ...]
"""Path, size in bytes and modification time in ns of each file."""


class SharedWeights:
    """A backbone's parameters by name, float32; never written to."""

    def __init__(
        self, tensors: Mapping[str, Tensor], digests: Mapping[str, str] | None = None
    ) -> None:
        self.tensors = dict(tensors)
        self._digests = dict(digests or {})
        self._placed: dict[str, dict[str, Tensor]] = {"cpu": self.tensors}

    def on(self, device: torch.device) -> Mapping[str, Tensor]:
        """Place all parameters on a device, once per process."""
        key = str(device)
        if key not in self._placed:
            self._placed[key] = {name: value.to(device) for name, value in self.tensors.items()}
        return self._placed[key]

    def digest(self, name: str) -> str:
        """Hash a parameter as it was loaded."""
        if name not in self._digests:
            self._digests[name] = digest_tensor(self.tensors[name])
        return self._digests[name]

    def fingerprint(self) -> str:
        """Hash all parameters with their names; independent of the file format."""
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(self.tensors):
            digest.update(f"{name}={self.digest(name)};".encode())
        return digest.hexdigest()


def digest_tensor(tensor: Tensor) -> str:
    """Hash a tensor's values, shape and type."""
    values = tensor.detach().cpu().contiguous()
    digest = hashlib.blake2b(f"{values.dtype} {tuple(values.shape)}".encode(), digest_size=16)
    digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def pretrained_weights(
    folder: Path, wanted: Mapping[str, torch.Size], own_name: Callable[[str], str]
) -> SharedWeights:
    """Map a published checkpoint, once per process while its files stay unchanged.

    Anything but float32 safetensors is converted into the node's cache once.

    Args:
        folder: directory with the checkpoint.
        wanted: shape of every parameter of the backbone.
        own_name: tells the backbone's name of a checkpoint's parameter.

    Raises:
        ModelError: files or parameters are missing or damaged.
    """
    stats = ((file.resolve(), file.stat()) for file in checkpoint_files(folder))
    signature = tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats)
    return _map_pretrained(signature, tuple(wanted.items()), own_name)


def generated_weights(name: str, generate: Callable[[], Mapping[str, Tensor]]) -> SharedWeights:
    """Map weights from the node's cache, generating them there if nobody has.

    Args:
        name: identifies the weights; equal names must mean equal weights.
        generate: makes the parameters.
    """
    file = cache_dir() / "weights" / f"{name}.safetensors"
    write_once(file, lambda temporary: _write(generate(), temporary))
    return _map_generated(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _map_generated(file: Path, mtime_ns: int) -> SharedWeights:
    tensors, metadata = map_safetensors(file)
    return SharedWeights(tensors, json.loads(metadata[_DIGESTS]))


@lru_cache(maxsize=4)
def _map_pretrained(
    signature: Signature, wanted: tuple[tuple[str, torch.Size], ...], own_name: Callable[[str], str]
) -> SharedWeights:
    files = [file for file, _, _ in signature]
    mapped = map_checkpoint(files)
    tensors = select(mapped, dict(wanted), own_name, files[0].parent)
    mappable = all(file.suffix == ".safetensors" for file in files)
    if mappable and all(tensor.dtype == torch.float32 for tensor in tensors.values()):
        return SharedWeights(tensors)
    key = hashlib.blake2b(repr((signature, wanted)).encode(), digest_size=16).hexdigest()
    return generated_weights(f"converted-{key}", lambda: _to_float32(tensors))


def _to_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(torch.float32) for name, tensor in tensors.items()}


def _write(tensors: Mapping[str, Tensor], file: Path) -> None:
    digests = {name: digest_tensor(tensor) for name, tensor in tensors.items()}
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, str(file), metadata={_DIGESTS: json.dumps(digests)})
