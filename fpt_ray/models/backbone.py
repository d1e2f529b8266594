"""A backbone without its numbers, and the numbers that belong to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from transformers import PretrainedConfig

from fpt_ray.config import ParameterRole
from fpt_ray.errors import ModelError
from fpt_ray.models.families import FAMILIES, Family
from fpt_ray.models.roles import backbone_roles
from fpt_ray.models.sources import BackboneSource, Init, find_source
from fpt_ray.models.statistics import draw_alike
from fpt_ray.models.weights import SharedWeights, generated_weights, pretrained_weights


@dataclass(frozen=True, slots=True)
class BackboneChoice:
    """Which backbone is asked for.

    Attributes:
        name: built-in name, local directory or hub id.
        init: pretrained weights, or weights drawn from the trial's seed: as the family draws
            them, or with each pretrained tensor's mean and deviation.
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
        given: weights of its shape that were trained elsewhere, in place of those of ``choice``.
    """

    family: Family
    published: PretrainedConfig
    config: PretrainedConfig
    choice: BackboneChoice
    source: BackboneSource
    given: SharedWeights | None = None

    @property
    def hidden_size(self) -> int:
        """Features of a token."""
        size: int = self.config.hidden_size
        return size

    @property
    def num_positions(self) -> int | None:
        """The longest sequence that it takes."""
        return self.family.num_positions(self.config)

    @property
    def causal(self) -> bool:
        """Whether tokens see only those before them."""
        return self.family.causal

    @property
    def takes_ids(self) -> bool:
        """Whether it was made for ids, and so may stand behind an embedding of them."""
        return self.family.takes_ids

    def run(self, module: nn.Module, embedded: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the hidden states, as ``Body.run`` says."""
        return self.family.run(module, embedded, mask)

    def roles(self, module: nn.Module, prefix: str) -> Iterator[ParameterRole]:
        """Assign every parameter to its group and layer, as ``Body.roles`` says."""
        return backbone_roles(module, self.family, prefix)

    def blueprint(self, attention: str) -> nn.Module:
        """Build the module on the meta device, without token embeddings.

        Args:
            attention: transformers' name of the attention implementation.
        """
        return self.family.blueprint(self.config, attention)

    def weights(self, seed: int) -> SharedWeights:
        """Map the weights, drawing random ones from ``seed`` once per node.

        Raises:
            ModelError: the weights are missing or damaged.
        """
        if self.given is not None:
            return self.given
        versions = f"torch{torch.__version__}-transformers{transformers.__version__}"
        architecture = self._architecture_hash(self.config)
        if self.source.folder is None:
            name = f"random-{architecture}-{seed}-{versions}"
            return generated_weights(name, lambda: self.family.draw(self.config, seed))
        published = self._published_weights(self.source.folder)
        if self.choice.init == "pretrained":
            return published
        name = f"statistics-{published.fingerprint()}-{architecture}-{seed}-{versions}"
        shapes = self._shapes(self.config)
        return generated_weights(name, lambda: draw_alike(published.tensors, shapes, seed))

    def fingerprint(self) -> str:
        """Identify the backbone: its architecture, and its weights where no seed draws them.

        Weights that are drawn with the pretrained ones' moments are identified by those.

        Raises:
            ModelError: the weights are missing or damaged.
        """
        if self.given is not None:
            return f"{self._architecture_hash(self.config)}-{self.given.fingerprint()}"
        described = self._architecture_hash(self.published)
        if self.source.folder is None:
            return described
        published = self._published_weights(self.source.folder).fingerprint()
        ending = "" if self.choice.init == "pretrained" else f"-{self.choice.init}"
        return f"{described}-{published}{ending}"

    def fit(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Shape published parameters for the changed backbone, as ``Family.fit`` says."""
        return self.family.fit(tensors, self.config)

    def _published_weights(self, folder: Path) -> SharedWeights:
        return pretrained_weights(folder, self._shapes(self.published), self.family.parameter_name)

    def _shapes(self, config: PretrainedConfig) -> dict[str, torch.Size]:
        return dict(_shapes(self.family.name, json.dumps(config.to_dict())))

    def _architecture_hash(self, config: PretrainedConfig) -> str:
        described = json.dumps(self.family.architecture(config), sort_keys=True)
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
    family, published = source.family, source.config
    if choice.num_layers is not None and choice.num_layers > family.num_layers(published):
        raise ModelError(
            f"backbone {choice.name} has {family.num_layers(published)} layers,"
            f" not {choice.num_layers}",
            where="model.num_layers",
            fix=f"num_layers: {family.num_layers(published)}",
        )
    num_positions = family.num_positions(published)
    if choice.extend_positions is not None and num_positions is None:
        raise ModelError(
            f"backbone {choice.name} has no position table that could be extended",
            where="model.extend_positions",
            fix="leave extend_positions out",
        )
    if choice.extend_positions is not None and choice.extend_positions < (num_positions or 0):
        raise ModelError(
            f"backbone {choice.name} already has {num_positions} positions;"
            f" extending them to {choice.extend_positions} would cut the table",
            where="model.extend_positions",
            fix="leave extend_positions out",
        )
    config = family.resized(published, choice.num_layers, choice.extend_positions)
    return Backbone(source.family, source.config, config, choice, source)


@lru_cache(maxsize=16)
def _shapes(family_name: str, config: str) -> tuple[tuple[str, torch.Size], ...]:
    """List the parameters of a backbone, built once per process."""
    family = FAMILIES[family_name]
    model = family.blueprint(family.config.from_dict(json.loads(config)), "eager")
    return tuple((name, value.shape) for name, value in model.named_parameters())
