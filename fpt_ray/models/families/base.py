"""What a family of transformers must tell about itself to be a backbone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers import PreTrainedModel as TransformersModel

from fpt_ray.config import BackboneShape


@dataclass(frozen=True, slots=True)
class Family:
    """How to build a family's backbone and how to name the roles of its parameters.

    Attributes:
        name: ``model_type`` in a ``config.json``.
        config: the family's configuration class.
        build: makes the bare backbone, without a pooler.
        config_from_shape: makes the configuration of a model that is known by its shape only.
        blocks: path of the list of blocks.
        tables: path of each embedding table that is kept, with its group.
        positions: name of the position table's parameter.
        owners: type of each module that gives its group to the linear layers inside it.
        unused: path of the token embeddings, which ``inputs_embeds`` goes round.
        prefixes: what checkpoints of larger models put before parameter names.
        causal: whether tokens see only those before them, and so never the padding after them.
        fields: names of the configuration's fields that determine the backbone's function.
    """

    name: str
    config: type[PretrainedConfig]
    build: Callable[[Any], TransformersModel]
    config_from_shape: Callable[[BackboneShape], PretrainedConfig]
    blocks: str
    tables: Mapping[str, str]
    positions: str
    owners: Mapping[type[nn.Module], str]
    unused: str
    prefixes: tuple[str, ...]
    causal: bool
    fields: tuple[str, ...]

    def run(self, module: nn.Module, embedded: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the hidden states of a module from ``build``, as ``Body.run`` says."""
        attended = None if mask is None or self.causal else _additive(mask, embedded.dtype)
        hidden: Tensor = module(inputs_embeds=embedded, attention_mask=attended).last_hidden_state
        return hidden

    def blueprint(self, config: PretrainedConfig, attention: str) -> nn.Module:
        """Build the module on the meta device, without token embeddings, its buffers filled.

        Args:
            config: shape of the backbone.
            attention: transformers' name of the attention implementation.
        """
        return self._blueprint(config, attention)

    def draw(self, config: PretrainedConfig, seed: int) -> dict[str, Tensor]:
        """Draw all parameters with the family's own initialisation."""
        model = self._blueprint(config, "eager")
        model.to_empty(device="cpu")
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model.apply(model._init_weights)
        return {name: value.detach() for name, value in model.named_parameters()}

    def num_layers(self, config: PretrainedConfig) -> int:
        """Count the blocks."""
        number: int = config.num_hidden_layers
        return number

    def num_positions(self, config: PretrainedConfig) -> int | None:
        """Tell the longest sequence; None where there is no limit."""
        number: int = config.max_position_embeddings
        return number

    def resized(
        self, config: PretrainedConfig, num_layers: int | None, num_positions: int | None
    ) -> PretrainedConfig:
        """Copy a configuration with other numbers of blocks and positions; None keeps them."""
        config = copy.deepcopy(config)
        if num_layers is not None:
            config.num_hidden_layers = num_layers
        if num_positions is not None:
            config.max_position_embeddings = num_positions
        return config

    def fit(self, tensors: Mapping[str, Tensor], config: PretrainedConfig) -> dict[str, Tensor]:
        """Shape published parameters for a resized configuration.

        A grown position table repeats the published one, which keeps each neighbourhood as the
        backbone learned it.

        Source: Beltagy et al. 2020 (arXiv:2004.05150), section 5, for repeated positions.
        """
        fitted = dict(tensors)
        table = fitted[self.positions]
        num_positions = config.max_position_embeddings
        if num_positions > len(table):
            repeats = -(-num_positions // len(table))
            fitted[self.positions] = table.repeat(repeats, 1)[:num_positions]
        return fitted

    def _blueprint(self, config: PretrainedConfig, attention: str) -> TransformersModel:
        config = copy.deepcopy(config)
        config._attn_implementation = attention
        config.use_cache = False
        with torch.device("meta"):
            model = self.build(config)
        parent, _, leaf = self.unused.rpartition(".")
        setattr(model.get_submodule(parent), leaf, None)
        _materialise_buffers(model)
        return model

    def architecture(self, config: PretrainedConfig) -> dict[str, Any]:
        """List what determines a backbone's function, dropout and unused embeddings aside.

        The fields are named one by one, so that a release of transformers that adds one does not
        change the identity of finished trials.
        """
        described = {"family": self.name}
        for name in (*_SHARED_FIELDS, *self.fields):
            described[name] = getattr(config, name)
        if self.name == "gpt2":
            described["intermediate_size"] = config.n_inner or 4 * config.hidden_size
        return described


_SHARED_FIELDS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "initializer_range",
)


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a mask into what attention scores get added, (batch, 1, 1, seq).

    Transformers takes four dimensions as they are. From a mask of two it would ask whether
    anything is padding at all, which makes an accelerator wait and cannot be vectorised.
    """
    zero = torch.zeros((), dtype=dtype, device=mask.device)
    return torch.where(mask, zero, torch.finfo(dtype).min)[:, None, None]


@torch.no_grad()
def _materialise_buffers(model: TransformersModel) -> None:
    """Give buffers that no checkpoint holds their real values, as the family computes them."""
    for module in model.modules():
        names = [name for name, value in module.named_buffers(recurse=False) if value.is_meta]
        for name in names:
            module._buffers[name] = torch.empty_like(module.get_buffer(name), device="cpu")
        if names:
            model._init_weights(module)  # type: ignore[no-untyped-call]
