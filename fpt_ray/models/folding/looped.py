"""Modules without a stacked version: one trial after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

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
        self._places = {name: _place(plain, name) for name in own}
        for module, leaf in self._places.values():
            module._parameters.pop(leaf, None)
        # Torch sees its children as this module's, under the names that they had.
        self._modules = plain._modules
        self.__dict__["plain"] = plain

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the module gives for each trial, one behind the other."""
        plain = self.__dict__["plain"]
        plain.training = self.training
        values = {name: value.unbind() for name, value in self._values.items()}
        given = []
        for trial in range(self.fold.trials):
            parts = [self._part(value, trial) for value in args]
            named = {name: self._part(value, trial) for name, value in kwargs.items()}
            with self._holding({name: value[trial] for name, value in values.items()}):
                given.append(plain(*parts, **named))
        return _join(given)

    @contextmanager
    def _holding(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Let the module have a trial's values where its own parameters were."""
        places = {self._places[name]: value for name, value in values.items()}
        for (module, leaf), value in places.items():
            setattr(module, leaf, value)
        try:
            yield
        finally:
            for module, leaf in places:
                delattr(module, leaf)

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


def _place(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Find the module that holds a parameter, and the parameter's name there."""
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def _join(given: list[Any]) -> Any:
    """Put what the trials gave behind each other: tensors, or tuples of such."""
    if isinstance(given[0], Tensor):
        return torch.cat(given)
    if isinstance(given[0], tuple):
        return tuple(_join(list(parts)) for parts in zip(*given, strict=True))
    return given[0]
