"""A backbone without its numbers, and the numbers that belong to it."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig
from transformers import PreTrainedModel as TransformersModel

from fpt_ray.errors import ModelError
from fpt_ray.models.families import FAMILIES, Family, architecture
from fpt_ray.models.sources import BackboneSource, Init, find_source
from fpt_ray.models.weights import SharedWeights, generated_weights, pretrained_weights


@dataclass(frozen=True, slots=True)
class BackboneChoice:
    """Which backbone is asked for.

    Attributes:
        name: built-in name, local directory or hub id.
        init: pretrained weights, or weights drawn from the trial's seed.
        num_layers: keep this many of the first blocks; None for all.
        extend_positions: length of the grown position table; None for its own length.
    """

    name: str
    init: Init = "pretrained"
    num_layers: int | None = None
    extend_positions: int | None = None


@dataclass(frozen=True, slots=True)
class Backbone:
    """A backbone that was found: its family, and its configurations before and after changes.

    Attributes:
        family: how to build it and read its parts.
        published: configuration as it was found.
        config: the same with the chosen number of layers and positions.
        choice: what was asked for.
        source: where it was found.
    """

    family: Family
    published: PretrainedConfig
    config: PretrainedConfig
    choice: BackboneChoice
    source: BackboneSource

    def blueprint(self, attention: str) -> TransformersModel:
        """Build the module on the meta device, without token embeddings.

        Args:
            attention: transformers' name of the attention implementation.
        """
        return _blueprint(self.family, self.config, attention)

    def weights(self, seed: int) -> SharedWeights:
        """Map the weights, drawing random ones from ``seed`` once per node.

        Raises:
            ModelError: the weights are missing or damaged.
        """
        if self.source.folder is not None:
            shapes = dict(_shapes(self.family.name, json.dumps(self.published.to_dict())))
            return pretrained_weights(self.source.folder, shapes, self.family.prefixes)
        versions = f"torch{torch.__version__}-transformers{transformers.__version__}"
        name = f"random-{self._architecture_hash(self.config)}-{seed}-{versions}"
        return generated_weights(name, lambda: _draw(self.family, self.config, seed))

    def fingerprint(self) -> str:
        """Identify the backbone: its architecture, and its weights where they are pretrained.

        Raises:
            ModelError: the weights are missing or damaged.
        """
        described = self._architecture_hash(self.published)
        return f"{described}-{self.weights(0).fingerprint()}" if self.source.folder else described

    def fit(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Shape published parameters for the changed backbone.

        Layers beyond ``num_layers`` are left out. A grown position table repeats the published
        one, which keeps each neighbourhood as the backbone learned it.

        Source: Beltagy et al. 2020 (arXiv:2004.05150), section 5, for repeated positions.
        """
        fitted = dict(tensors)
        table = fitted[self.family.positions]
        num_positions = self.config.max_position_embeddings
        if num_positions > len(table):
            repeats = -(-num_positions // len(table))
            fitted[self.family.positions] = table.repeat(repeats, 1)[:num_positions]
        return fitted

    def _architecture_hash(self, config: PretrainedConfig) -> str:
        described = json.dumps(architecture(self.family, config), sort_keys=True)
        return hashlib.blake2b(described.encode(), digest_size=8).hexdigest()


def find_backbone(choice: BackboneChoice, need_weights: bool = True) -> Backbone:
    """Find a backbone and apply the chosen changes to its configuration.

    Args:
        choice: what is asked for.
        need_weights: False where only shapes matter, so that pretrained weights may be missing.

    Raises:
        ModelError: it cannot be found, or the changes do not fit it.
    """
    source = find_source(choice.name, choice.init, need_weights)
    config = copy.deepcopy(source.config)
    if choice.num_layers is not None:
        if choice.num_layers > config.num_hidden_layers:
            raise ModelError(
                f"backbone {choice.name} has {config.num_hidden_layers} layers,"
                f" not {choice.num_layers}",
                where="model.num_layers",
                fix=f"num_layers: {config.num_hidden_layers}",
            )
        config.num_hidden_layers = choice.num_layers
    if choice.extend_positions is not None:
        if choice.extend_positions < config.max_position_embeddings:
            raise ModelError(
                f"backbone {choice.name} already has {config.max_position_embeddings} positions;"
                f" extending them to {choice.extend_positions} would cut the table",
                where="model.extend_positions",
                fix="leave extend_positions out",
            )
        config.max_position_embeddings = choice.extend_positions
    return Backbone(source.family, source.config, config, choice, source)


def _blueprint(family: Family, config: PretrainedConfig, attention: str) -> TransformersModel:
    config = copy.deepcopy(config)
    config._attn_implementation = attention
    config.use_cache = False
    with torch.device("meta"):
        model = family.build(config)
    parent, _, leaf = family.unused.rpartition(".")
    setattr(model.get_submodule(parent), leaf, None)
    _materialise_buffers(model)
    return model


@lru_cache(maxsize=16)
def _shapes(family_name: str, config: str) -> tuple[tuple[str, torch.Size], ...]:
    """List the parameters of a published backbone, built once per process."""
    family = FAMILIES[family_name]
    model = _blueprint(family, family.config.from_dict(json.loads(config)), "eager")
    return tuple((name, value.shape) for name, value in model.named_parameters())


@torch.no_grad()
def _materialise_buffers(model: TransformersModel) -> None:
    """Give buffers that no checkpoint holds their real values, as the family computes them."""
    for module in model.modules():
        names = [name for name, value in module.named_buffers(recurse=False) if value.is_meta]
        for name in names:
            module._buffers[name] = torch.empty_like(module.get_buffer(name), device="cpu")
        if names:
            model._init_weights(module)  # type: ignore[no-untyped-call]


@torch.no_grad()
def _draw(family: Family, config: PretrainedConfig, seed: int) -> dict[str, Tensor]:
    """Draw a whole backbone with its family's own initialisation."""
    model = _blueprint(family, config, "eager")
    model.to_empty(device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model.apply(model._init_weights)
    return {name: value.detach() for name, value in model.named_parameters()}
