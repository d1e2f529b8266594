"""Adam for packs: each trial with its own rate and its own count of updates.

Source: Kingma and Ba 2015 (arXiv:1412.6980), as torch.optim.Adam computes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

from fpt_ray.training.feed import send
from fpt_ray.training.pack.gradients import FlatGradients
from fpt_ray.training.pack.rows import Rows
from fpt_ray.training.pack.trial import PackedTrial


class PackAdam(ABC):
    """Updates the rows of a pack. Nothing is allocated on the device while it does.

    Args:
        rows: what is updated.
        trials: whose recipes and counts of updates the rows follow.
        num_steps: the most updates that will be made.
    """

    def __init__(self, rows: Rows, trials: Sequence[PackedTrial], num_steps: int) -> None:
        self.rows = rows
        self.recipes = [trial.work.recipe for trial in trials]
        self.counts = [trial.updates for trial in trials]
        self.num_steps = num_steps

    @abstractmethod
    def update(self, norms: Tensor, skipped: Collection[int]) -> None:
        """Clip the gradients, which are used up, and make one update.

        Args:
            norms: (trials,) norm of each trial's gradients.
            skipped: rows that stay as they are.
        """


class RowAdam(PackAdam):
    """Fused kernels row by row: on CPUs twice to three times as fast as operations on all rows."""

    def __init__(self, rows: Rows, trials: Sequence[PackedTrial], num_steps: int) -> None:
        super().__init__(rows, trials, num_steps)
        cut = rows.gradients.parts
        self._parts = [
            (cut(row.values), cut(row.exp_avg), cut(row.exp_avg_sq)) for row in rows.numbers
        ]
        self._steps = [
            [torch.tensor(float(count)) for _ in values]
            for count, (values, _, _) in zip(self.counts, self._parts, strict=True)
        ]

    @torch.no_grad()
    def update(self, norms: Tensor, skipped: Collection[int]) -> None:
        """Clip and update row by row, as ``PackAdam.update`` says."""
        for index, norm in enumerate(norms.tolist()):
            if index not in skipped:
                self._update_row(index, norm)

    def _update_row(self, index: int, norm: float) -> None:
        recipe, (values, exp_avgs, exp_avg_sqs) = self.recipes[index], self._parts[index]
        gradients = self.rows.gradients.of(index)
        scale = _scale(recipe.grad_clip_norm, norm)
        if scale < 1:
            torch._foreach_mul_(gradients, scale)
        adam(
            values,
            gradients,
            exp_avgs,
            exp_avg_sqs,
            [],
            self._steps[index],
            fused=True,
            amsgrad=False,
            beta1=recipe.betas[0],
            beta2=recipe.betas[1],
            lr=recipe.learning_rate,
            weight_decay=0.0,
            eps=recipe.epsilon,
            maximize=False,
        )
        self.counts[index] += 1


class FlatAdam(PackAdam):
    """A few kernels for all rows: what an accelerator needs, whose host never waits.

    With the step's bias corrections c1 and c2 an update is

        value -= exp_avg / (sqrt(exp_avg_sq) * factor + addend)

    where factor = c1 / (rate * sqrt(c2)) and addend = epsilon * c1 / rate; both are computed for
    all steps beforehand. The gradients' buffer takes the denominators. Rows are never skipped.
    """

    def __init__(self, rows: Rows, trials: Sequence[PackedTrial], num_steps: int) -> None:
        super().__init__(rows, trials, num_steps)
        device = rows.values.device
        if not isinstance(rows.gradients, FlatGradients):
            raise ValueError("gradients must lie in one buffer")
        self._gradients = rows.gradients.buffer
        self._values = rows.values[:, : rows.layout.num_moving]
        self._made = 0
        self._terms = send(self._table(), device)
        clips = [recipe.grad_clip_norm for recipe in self.recipes]
        limits = torch.tensor([float("inf") if clip is None else clip for clip in clips])
        self._limits = send(limits, device)
        self._scale = torch.empty(len(trials), 1, device=device)

    @torch.no_grad()
    def update(self, norms: Tensor, skipped: Collection[int] = ()) -> None:
        """Clip and update all rows at once, as ``PackAdam.update`` says."""
        rows, (beta1, beta2) = self.rows, self.recipes[0].betas
        gradients = self._gradients
        torch.add(norms, 1e-6, out=self._scale[:, 0])
        torch.div(self._limits, self._scale[:, 0], out=self._scale[:, 0]).clamp_(max=1.0)
        gradients.mul_(self._scale)
        rows.exp_avg.lerp_(gradients, 1 - beta1)
        rows.exp_avg_sq.mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
        factor, addend = self._terms[self._made].unbind(dim=-1)
        torch.sqrt(rows.exp_avg_sq, out=gradients).mul_(factor).add_(addend)
        self._values.addcdiv_(rows.exp_avg, gradients, value=-1.0)
        self._made += 1
        self.counts = [count + 1 for count in self.counts]

    def _table(self) -> Tensor:
        """Compute factor and addend, (steps, trials, 1, 2)."""
        updates = torch.arange(1, self.num_steps + 1, dtype=torch.float64)[:, None]
        updates = updates + torch.tensor(self.counts, dtype=torch.float64)
        beta1, beta2 = self.recipes[0].betas
        rates = torch.tensor([r.learning_rate for r in self.recipes], dtype=torch.float64)
        first = (1 - beta1**updates) / rates
        factor = first / (1 - beta2**updates).sqrt()
        addend = first * self.recipes[0].epsilon
        return torch.stack([factor, addend], dim=-1).unsqueeze(2).float()


def make_adam(rows: Rows, trials: Sequence[PackedTrial], num_steps: int) -> PackAdam:
    """Choose the faster one for the device."""
    kind = RowAdam if rows.values.device.type == "cpu" else FlatAdam
    return kind(rows, trials, num_steps)


def _scale(limit: float | None, norm: float) -> float:
    """Compute what gradients are multiplied by, as ``torch.nn.utils.clip_grad_norm_`` does."""
    return 1.0 if limit is None else min(1.0, limit / (norm + 1e-6))
