"""Which module takes the place of one that holds parameters of several trials."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import nn
from transformers.activations import NewGELUActivation
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention
from transformers.models.t5.modeling_t5 import T5Attention, T5LayerNorm
from transformers.pytorch_utils import Conv1D

from fpt_ray.models.ends import OneHotLinear
from fpt_ray.models.families.vit import VitPositions
from fpt_ray.models.folding.linear import SequenceFirstLinear, StackedConv1D, StackedLinear
from fpt_ray.models.folding.looped import Looped
from fpt_ray.models.folding.norms import StackedLayerNorm, StackedRMSNorm
from fpt_ray.models.folding.recurrent import StackedLSTM, StackedStack
from fpt_ray.models.folding.stacked import Fold, Stacked
from fpt_ray.models.folding.tables import (
    BiasPerSequence,
    StackedEmbedding,
    StackedOneHotLinear,
    StackedRelativeBias,
    StackedVitPositions,
)
from fpt_ray.models.lstm import Stack

Rule = Callable[[nn.Module, Collection[str], Fold], Stacked]

RULES: Mapping[type[nn.Module], Rule] = {
    nn.LayerNorm: StackedLayerNorm,
    nn.RMSNorm: StackedRMSNorm,
    T5LayerNorm: StackedRMSNorm,
    LlamaRMSNorm: StackedRMSNorm,
    nn.Linear: StackedLinear,
    OneHotLinear: StackedOneHotLinear,
    Conv1D: StackedConv1D,
    nn.Embedding: StackedEmbedding,
    VitPositions: StackedVitPositions,
    nn.LSTM: StackedLSTM,
    Stack: StackedStack,
}
"""What takes the place of a module of each type; one of another type is looped over."""

CHILD_RULES: Mapping[tuple[type[nn.Module], type[nn.Module]], Rule] = {
    (LongformerSelfAttention, nn.Linear): SequenceFirstLinear,
    (T5Attention, nn.Embedding): StackedRelativeBias,
}
"""The same for modules that stand in another of a given type, which uses them in its own way."""


class Replacer:
    """Puts stacked modules in the places of those that hold parameters of the trials' own.

    Args:
        owned: name of each parameter that every trial has of its own, by its identity.
        fold: how batches are made of trials.

    Attributes:
        stacked: the modules that were put in, with the own parameters of each: the name in the
            module, and that in the model.
    """

    def __init__(self, owned: Mapping[int, str], fold: Fold) -> None:
        self.stacked: list[tuple[Stacked, dict[str, str]]] = []
        self._owned = owned
        self._fold = fold
        self._done: dict[nn.Module, nn.Module] = {}

    def replace_children(self, module: nn.Module) -> None:
        """Replace what needs it below a module."""
        for name, child in list(module._modules.items()):
            if child is not None:
                setattr(module, name, self._replacement(module, child))
        if isinstance(module, T5Attention) and self._biased(module):
            module.compute_bias = BiasPerSequence(module.compute_bias, self._fold)  # type: ignore[method-assign]

    def _replacement(self, parent: nn.Module, module: nn.Module) -> nn.Module:
        """Give what stands in a module's place from now on, the same wherever it stands."""
        if module not in self._done:
            self._done[module] = self._fresh(parent, module)
        return self._done[module]

    def _fresh(self, parent: nn.Module, module: nn.Module) -> nn.Module:
        if isinstance(module, NewGELUActivation):
            return nn.GELU(approximate="tanh")
        names = self._names(module, recurse=False)
        if not names:
            self.replace_children(module)
            return module
        kind = type(module)
        rule = CHILD_RULES.get((type(parent), kind)) or RULES.get(kind, Looped)
        names = self._names(module, recurse=True) if rule is Looped else names
        stacked = rule(module, names.keys(), self._fold)
        self.stacked.append((stacked, names))
        if rule is not Looped:
            self.replace_children(stacked)
        return stacked

    def _names(self, module: nn.Module, recurse: bool) -> dict[str, str]:
        """List a module's parameters of the trials' own, with their names in the model."""
        found = module.named_parameters(recurse=recurse, remove_duplicate=False)
        return {name: self._owned[id(value)] for name, value in found if id(value) in self._owned}

    @staticmethod
    def _biased(attention: T5Attention) -> bool:
        table = attention.relative_attention_bias if attention.has_relative_attention_bias else None
        return isinstance(table, StackedRelativeBias)
