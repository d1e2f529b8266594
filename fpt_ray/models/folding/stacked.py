"""What all modules share that hold parameters of several trials."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(slots=True)
class Fold:
    """How the batch that is being computed is made of trials; all its modules share one.

    Attributes:
        trials: how many trials it holds.
        batch: sequences of each trial.
    """

    trials: int = 1
    batch: int = 1

    def rows(self, folded: Tensor) -> Tensor:
        """View (trials * batch, ..., features) as (trials, rows of a trial, features)."""
        return folded.reshape(self.trials, -1, folded.shape[-1])

    def split(self, folded: Tensor) -> Tensor:
        """View (trials * batch, ...) as (trials, batch, ...)."""
        return folded.reshape(self.trials, len(folded) // self.trials, *folded.shape[1:])

    def spread(self, values: Tensor) -> Tensor:
        """Give every sequence its trial's values: (trials, ...) to (trials * batch, ...)."""
        shape = (self.trials, self.batch, *values.shape[1:])
        return values.unsqueeze(1).expand(shape).flatten(0, 1)


class Stacked(nn.Module):
    """A module some of whose parameters every trial has of its own, (trials, *shape).

    The others stay the plain module's, under their names, so that a model's frozen parameters can
    be found where they were. An attribute gives either kind.

    Args:
        plain: the module whose place it takes.
        own: names of the parameters that every trial has of its own.
        fold: how batches are made of trials.
    """

    def __init__(self, plain: nn.Module, own: Collection[str], fold: Fold) -> None:
        super().__init__()
        self._values: dict[str, Tensor] = {}
        self.own = frozenset(own)
        self.fold = fold
        self.training = plain.training
        for name, parameter in plain._parameters.items():
            if name not in own:
                self.register_parameter(name, parameter)

    def bind(self, values: Mapping[str, Tensor]) -> None:
        """Use these values of the trials' own parameters, (trials, *shape), from now on."""
        self._values = dict(values)

    def single(self, name: str) -> Tensor:
        """Give a parameter as the plain module has it, where there is one trial only."""
        value: Tensor = getattr(self, name)
        return value.squeeze(0) if name in self.own else value

    def per_row(self, name: str) -> Tensor:
        """Give a vector, (trials, 1, features) or (features,), to be used with ``Fold.rows``."""
        value: Tensor = getattr(self, name)
        return value.unsqueeze(1) if name in self.own else value

    def for_each_trial(self, name: str) -> tuple[Any, ...]:
        """Give a parameter as the plain module has it, once for each trial."""
        value: Tensor | None = getattr(self, name)
        if name in self.own and value is not None:
            return value.unbind()
        return (value,) * self.fold.trials

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("_values", {})
        return values[name] if name in values else super().__getattr__(name)
