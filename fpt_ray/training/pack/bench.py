"""Where a pack computes: a folded model, bound to the numbers of whoever is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from fpt_ray.models.folding import Folded
from fpt_ray.training.pack.compute import Computation
from fpt_ray.training.pack.rows import Rows, stack_orders
from fpt_ray.training.pack.trial import PackedTrial


class Bench:
    """A folded model for the trials of one key, and the buffers of those that train.

    What every trial has a value of is what any trial trains that has ever come, and the ends.

    Args:
        trial: any one of the key; it gives the shapes, and is not held.
    """

    def __init__(self, trial: PackedTrial) -> None:
        parts = trial.parts
        self.weights = parts.weights
        self.cut = parts.cut
        self.device = parts.device
        self.bf16 = trial.work.recipe.precision == "bf16"
        self._blueprint = parts.blueprint
        self._own = frozenset(parts.own)
        self._made: Computation | None = None
        self._rows: Rows | None = None

    def seat(self, trials: Sequence[PackedTrial]) -> tuple[Computation, Rows]:
        """Have these trials' numbers stacked, and the model bound to them.

        Trials that were seated and are no longer among them take their numbers with them.
        """
        self._widen(trials)
        rows = self._rows
        if rows is None or not rows.hold(trials, self._own):
            fresh = self.stack(trials)
            if rows is not None:
                rows.release(trials)
            fresh.adopt(trials)
            rows = self._rows = fresh
        return self.bind(rows), rows

    def stack(self, trials: Sequence[PackedTrial]) -> Rows:
        """Copy trials' numbers into buffers, which the trials do not use."""
        self._widen(trials)
        return Rows(trials, self._own, self.weights.tensors)

    def bind(self, rows: Rows) -> Computation:
        """Bind the model to what was stacked."""
        computation = self._computation()
        computation.model.bind(rows.leaves, rows.orders)
        return computation

    @contextmanager
    def lent(
        self, trials: Sequence[PackedTrial], values: Sequence[Mapping[str, Tensor]] = ()
    ) -> Iterator[Computation]:
        """Bind the model to trials that need not be seated, until the context ends.

        Args:
            trials: the trials.
            values: of each, what stands in place of its own parameters; empty for nothing.
        """
        self._widen(trials)
        if not values and self._rows is not None and self._rows.hold(trials, self._own):
            yield self.bind(self._rows)
            return
        stacked = self._stacked(trials, values or [{}] * len(trials))
        computation = self._computation()
        computation.model.bind(stacked, stack_orders(trials))
        try:
            yield computation
        finally:
            self.rebind()

    def rebind(self) -> None:
        """Bind the model to who is seated, if anybody is, so that it holds no other numbers."""
        if self._rows is not None and len(self._rows.layout.shapes) == len(self._own):
            self.bind(self._rows)
        else:
            self._computation().model.release()

    def _widen(self, trials: Sequence[PackedTrial]) -> None:
        """Have a value for each trial of what one of them trains and nobody did so far."""
        needed = self._own.union(*(trial.parts.trained for trial in trials))
        if needed != self._own:
            self._own, self._made = needed, None

    def _computation(self) -> Computation:
        if self._made is None:
            self._made = Computation(Folded(self._blueprint(), self._own), self.cut, self.bf16)
        return self._made

    def _stacked(
        self, trials: Sequence[PackedTrial], values: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        shared = self.weights.tensors
        every = list(zip(trials, values, strict=True))

        def value(trial: PackedTrial, given: Mapping[str, Tensor], name: str) -> Tensor:
            if name in given:
                return given[name]
            return trial.numbers.value(name) if name in trial.numbers.layout else shared[name]

        return {name: torch.stack([value(*one, name) for one in every]) for name in self._own}
