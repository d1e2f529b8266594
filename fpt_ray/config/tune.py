"""How each arm is searched: space, searcher and scheduler."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fpt_ray.config.base import Settings, refusal
from fpt_ray.config.domains import AnyDomain, Grid


class GridSearcher(Settings):
    """Tries every combination of the listed values."""

    name: Literal["grid"] = "grid"


class RandomSearcher(Settings):
    """Draws every configuration at random."""

    name: Literal["random"] = "random"
    num_trials: int = Field(ge=1)
    """Configurations in each arm."""


class OptunaSearcher(Settings):
    """Optuna's TPE: draws more often where earlier configurations did well."""

    name: Literal["optuna"] = "optuna"
    num_trials: int = Field(ge=1)
    """Configurations in each arm."""


class FifoScheduler(Settings):
    """Trains every trial to its end."""

    name: Literal["fifo"] = "fifo"


class AshaScheduler(Settings):
    """Stops a trial at a rung unless it is among the best there."""

    name: Literal["asha"] = "asha"
    grace_period: int = Field(ge=1)
    """Steps to the first rung; a multiple of training.eval_every."""
    reduction_factor: int = Field(default=3, ge=2)
    """One in this many trials goes on at a rung, and rungs grow by this factor; at least 2."""


AnySearcher = Annotated[GridSearcher | RandomSearcher | OptunaSearcher, Field(discriminator="name")]
AnyScheduler = Annotated[FifoScheduler | AshaScheduler, Field(discriminator="name")]


class Tune(Settings):
    """The search that every arm gets, separately and with the same budget."""

    space: dict[str, AnyDomain] = Field(min_length=1)
    """Dotted key to the values it may take."""
    searcher: AnySearcher = GridSearcher()
    scheduler: AnyScheduler = FifoScheduler()
    metric: Literal["validation_accuracy", "validation_loss"] = "validation_accuracy"
    """What the best configuration is chosen by."""
    seeds: int = Field(default=1, ge=1)
    """Trials of each configuration, with different seeds."""

    @property
    def direction(self) -> Literal["max", "min"]:
        """Whether high or low values of the metric are good."""
        return "max" if self.metric == "validation_accuracy" else "min"

    @property
    def num_configurations(self) -> int:
        """Configurations that are tried in each arm."""
        if isinstance(self.searcher, GridSearcher):
            return math.prod(len(domain.probes) for domain in self.space.values())
        return self.searcher.num_trials

    @property
    def num_trials(self) -> int:
        """Trials in each arm: configurations times seeds."""
        return self.num_configurations * self.seeds

    @property
    def num_values(self) -> int | None:
        """How many different configurations the space holds; None if it has a continuous range."""
        counts = [domain.num_values for domain in self.space.values()]
        return None if None in counts else math.prod(count for count in counts if count)

    @model_validator(mode="after")
    def _check_searcher(self) -> Self:
        if isinstance(self.searcher, GridSearcher):
            self._check_all_grids()
        elif self.num_values is not None and self.searcher.num_trials > self.num_values:
            wanted, most = self.searcher.num_trials, self.num_values
            what = f"num_trials {wanted} is more than the {most} different configurations there are"
            fix = f"searcher: {{name: grid}} to try each once, or num_trials: {most} or less"
            raise refusal(("searcher", "num_trials"), what, fix, (("space",),))
        return self

    def _check_all_grids(self) -> None:
        for key, domain in self.space.items():
            if not isinstance(domain, Grid):
                raise refusal(
                    ("searcher",),
                    f"the grid searcher cannot search {key}, which is {domain.kind}",
                    "searcher: {name: optuna, num_trials: 20}, or give the key a grid",
                    (("space", key),),
                )

    @model_validator(mode="after")
    def _check_seeds(self) -> Self:
        if self.seeds > 1 and isinstance(self.scheduler, AshaScheduler):
            what = f"seeds {self.seeds} cannot be used with asha: repeats would stop at other rungs"
            raise refusal(
                ("seeds",), what, "seeds: 1, or scheduler: {name: fifo}", (("scheduler",),)
            )
        return self
