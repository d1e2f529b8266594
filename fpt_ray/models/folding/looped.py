"""Modules without a stacked version: one trial after the other."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fpt_ray.models.folding.stacked import Fold, Stacked


class Looped(Stacked):
    """Any module, its children included, computed once for each trial.

    Tensors whose first dimension is all trials' sequences are divided among the trials; whatever
    else the module takes, all trials share. What it gives has its sequences in the first dimension.

    Args:
        plain: the module; its own parameters are taken out of it.
        own: names of the parameters in it and its children that every trial has of its own.
        fold: how batches are made of trials.
    """

    def __init__(self, plain: nn.Module, own: Collection[str], fold: Fold) -> None:
        super().__init__(plain, own, fold)
        for name in own:
            path, _, leaf = name.rpartition(".")
            plain.get_submodule(path)._parameters.pop(leaf)
        # Torch sees its children as this module's, under the names that they had.
        self._modules = plain._modules
        self.__dict__["plain"] = plain

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the module gives for each trial, one behind the other."""
        plain, trials = self.__dict__["plain"], self.fold.trials
        plain.training = self.training
        values = {name: value.unbind() for name, value in self._values.items()}
        given = [
            functional_call(
                plain,
                {name: value[trial] for name, value in values.items()},
                tuple(self._part(arg, trial) for arg in args),
                {name: self._part(arg, trial) for name, arg in kwargs.items()},
            )
            for trial in range(trials)
        ]
        return _join(given)

    def _part(self, value: Any, trial: int) -> Any:
        """Take a trial's part of what holds all trials' sequences; anything else as it is."""
        batch = self.fold.batch
        whole = isinstance(value, Tensor) and value.shape[:1] == (self.fold.trials * batch,)
        return value[trial * batch : (trial + 1) * batch] if whole else value

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["plain"], name)


def _join(given: list[Any]) -> Any:
    """Put what the trials gave behind each other: tensors, or tuples of such."""
    if isinstance(given[0], Tensor):
        return torch.cat(given)
    if isinstance(given[0], tuple):
        return tuple(_join(list(parts)) for parts in zip(*given, strict=True))
    return given[0]
