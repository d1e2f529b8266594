"""What a family of transformers must tell about itself to be a backbone."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers import PreTrainedModel as TransformersModel

from fpt_ray.config import BackboneShape

SHARED_FIELDS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "initializer_range",
)
"""Fields that most families' configurations have and that determine a backbone's function."""


class Family(ABC):
    """How to build a family's backbone and how to name the roles of its parameters.

    Attributes:
        name: ``model_type`` in a ``config.json``.
        config: the family's configuration class.
        blocks: path of the list of blocks.
        embeddings: path of the token embeddings, which ``inputs_embeds`` goes round; None where
            the module has none.
        tables: path of each module that holds a table, with its group.
        positions: name of the parameter that holds one row a position; None without such a table.
        owners: type of each module that gives its group to the linear layers inside it.
        norms: types of the modules of the group ``layer_norm``.
        prefixes: what checkpoints of larger models put before parameter names, outermost first.
        fields: names of the configuration's fields that determine the backbone's function.
        attentions: transformers' names of the attention implementations that it has.
        causal: whether tokens see only those before them, and so never the padding after them.
        takes_ids: whether it was made for token ids, and so may stand behind an embedding.
    """

    name: ClassVar[str]
    config: ClassVar[type[PretrainedConfig]]
    blocks: ClassVar[str]
    embeddings: ClassVar[str | None]
    tables: ClassVar[Mapping[str, str]] = {}
    positions: ClassVar[str | None]
    owners: ClassVar[Mapping[type[nn.Module], str]]
    norms: ClassVar[tuple[type[nn.Module], ...]] = (nn.LayerNorm,)
    prefixes: ClassVar[tuple[str, ...]]
    fields: ClassVar[tuple[str, ...]]
    attentions: ClassVar[tuple[str, ...]] = ("eager", "sdpa")
    causal: ClassVar[bool] = False
    takes_ids: ClassVar[bool] = True

    @abstractmethod
    def build(self, config: Any) -> TransformersModel:
        """Make the bare backbone, without a pooler."""

    @abstractmethod
    def config_from_shape(self, shape: BackboneShape) -> PretrainedConfig:
        """Make the configuration of a model that is known by its shape only."""

    def run(self, module: nn.Module, embedded: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the hidden states of a module from ``blueprint``, as ``Body.run`` says."""
        attended = None if mask is None or self.causal else additive(mask, embedded.dtype)
        hidden: Tensor = module(inputs_embeds=embedded, attention_mask=attended).last_hidden_state
        return hidden

    def blueprint(self, config: PretrainedConfig, attention: str) -> nn.Module:
        """Build the module on the meta device, without what is never used, its buffers filled.

        Args:
            config: shape of the backbone.
            attention: transformers' name of the attention implementation; a family without it
                takes its first one.
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

    def unused(self, config: PretrainedConfig) -> Iterable[str]:
        """List the paths of the modules that no hidden state depends on."""
        return () if self.embeddings is None else (self.embeddings,)

    def num_layers(self, config: PretrainedConfig) -> int:
        """Count the blocks."""
        number: int = config.num_hidden_layers
        return number

    def num_positions(self, config: PretrainedConfig) -> int | None:
        """Tell the longest sequence; None where there is no limit."""
        if self.positions is None:
            return None
        number: int = config.max_position_embeddings
        return number - self.reserved_rows(config)

    def reserved_rows(self, config: PretrainedConfig) -> int:
        """Count the rows of the position table before that of a sequence's first token."""
        return 0

    def resized(
        self, config: PretrainedConfig, num_layers: int | None, num_positions: int | None
    ) -> PretrainedConfig:
        """Copy a configuration with other numbers of blocks and positions; None keeps them."""
        config = copy.deepcopy(config)
        if num_layers is not None:
            config.num_hidden_layers = num_layers
        if num_positions is not None:
            config.max_position_embeddings = num_positions + self.reserved_rows(config)
        return config

    def fit(self, tensors: Mapping[str, Tensor], config: PretrainedConfig) -> dict[str, Tensor]:
        """Shape published parameters for a resized configuration.

        A grown position table repeats the published one, which keeps each neighbourhood as the
        backbone learned it. Rows before that of the first token stay where they are.

        Source: Beltagy et al. 2020 (arXiv:2004.05150), section 5, for repeated positions.
        """
        fitted = dict(tensors)
        num_positions = self.num_positions(config)
        if self.positions is None or num_positions is None:
            return fitted
        table, reserved = fitted[self.positions], self.reserved_rows(config)
        published = table.shape[-2] - reserved
        if num_positions > published:
            first, rest = table.narrow(-2, 0, reserved), table.narrow(-2, reserved, published)
            repeats = -(-num_positions // published)
            grown = torch.cat([first, *[rest] * repeats], dim=-2)
            fitted[self.positions] = grown.narrow(-2, 0, reserved + num_positions)
        return fitted

    def parameter_name(self, published: str) -> str:
        """Tell the backbone's own name of a checkpoint's parameter."""
        for prefix in self.prefixes:
            published = published.removeprefix(prefix)
        return published

    def architecture(self, config: PretrainedConfig) -> dict[str, Any]:
        """List what determines a backbone's function, dropout and unused embeddings aside.

        The fields are named one by one, so that a release of transformers that adds one does not
        change the identity of finished trials.
        """
        return {"family": self.name, **{name: getattr(config, name) for name in self.fields}}

    def _blueprint(self, config: PretrainedConfig, attention: str) -> TransformersModel:
        config = copy.deepcopy(config)
        config._attn_implementation = (
            attention if attention in self.attentions else self.attentions[0]
        )
        config.use_cache = False
        with torch.device("meta"):
            model = self.build(config)
        for path in self.unused(config):
            parent, _, leaf = path.rpartition(".")
            setattr(model.get_submodule(parent), leaf, None)
        _materialise_buffers(model)
        return model


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a (batch, seq) mask into what attention scores get added, (batch, 1, 1, seq).

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
