"""The numbers of a pack: one row for each trial, in flat buffers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from weakref import ref

import torch
from torch import Tensor

from fpt_ray.training.pack.gradients import make_gradients
from fpt_ray.training.pack.numbers import Layout, Numbers
from fpt_ray.training.pack.trial import PackedTrial


class Rows:
    """Parameters, gradients and moments of some trials, one row each.

    Args:
        trials: the trials, or one of them several times.
        own: names of the parameters that each trial has a value of.
        shared: values of those that a trial takes from its body, since it does not train them.

    Attributes:
        num_trials: rows.
        layout: of a row.
        values: (trials, layout.size) parameters.
        gradients: of the last step.
        exp_avg: (trials, layout.num_moving), Adam's means of gradients.
        exp_avg_sq: (trials, layout.num_moving), Adam's means of their squares.
        leaves: each parameter, (trials, *shape), as the model takes them.
        orders: (trials, seq_length) orders of shuffled tokens, or None.
    """

    def __init__(
        self, trials: Sequence[PackedTrial], own: Collection[str], shared: Mapping[str, Tensor]
    ) -> None:
        parts = trials[0].parts
        moving = frozenset().union(*(trial.parts.trained for trial in trials))
        shapes = {name: shape for name, shape in parts.shapes.items() if name in own}
        self.num_trials = len(trials)
        self.layout = layout = Layout(shapes, moving)
        self._trials = [ref(trial) for trial in trials]
        self.values = torch.zeros(len(trials), layout.size, device=parts.device)
        size = (len(trials), layout.num_moving)
        self.exp_avg, self.exp_avg_sq = (torch.zeros(size, device=parts.device) for _ in range(2))
        trained = [trial.parts.trained for trial in trials]
        self.gradients = make_gradients(layout, trained, parts.device)
        self.numbers = [self._row(index) for index in range(len(trials))]
        for row, trial in zip(self.numbers, trials, strict=True):
            row.take(trial.numbers, shared)
        self.leaves = {name: layout.view(self.values, name).detach() for name in shapes}
        self._moving = [self.leaves[name].requires_grad_() for name in layout.moving]
        self.orders = stack_orders(trials)

    def adopt(self, trials: Sequence[PackedTrial]) -> None:
        """Have the trials keep their numbers here from now on."""
        for row, trial in zip(self.numbers, trials, strict=True):
            trial.numbers = row

    def release(self, staying: Collection[PackedTrial]) -> None:
        """Give the trials that leave numbers of their own; who is gone needs none."""
        for row, trial in zip(self.numbers, (found() for found in self._trials), strict=True):
            if trial is not None and trial not in staying and trial.numbers is row:
                trial.leave()

    def hold(self, trials: Sequence[PackedTrial], own: Collection[str]) -> bool:
        """Tell whether these are the trials, in this order, and their numbers are here."""
        return (
            len(trials) == self.num_trials
            and len(own) == len(self.layout.shapes)
            and all(trial.numbers is row for trial, row in zip(trials, self.numbers, strict=True))
        )

    def differentiate(self, loss: Tensor) -> Tensor:
        """Compute all gradients, and 0 for what a trial does not train.

        Args:
            loss: sum over the trials, a function of the leaves.

        Returns:
            (trials,) norm of each trial's gradients.
        """
        return self.gradients.take(torch.autograd.grad(loss, self._moving, materialize_grads=True))

    def _row(self, index: int) -> Numbers:
        moments = self.exp_avg[index], self.exp_avg_sq[index]
        return Numbers(self.layout, self.values[index], *moments)


def stack_orders(trials: Sequence[PackedTrial]) -> Tensor | None:
    """Stack the orders of shuffled tokens, (trials, seq_length); None where they are as given."""
    orders = [trial.parts.order for trial in trials if trial.parts.order is not None]
    return torch.stack(orders).to(trials[0].parts.device) if orders else None
