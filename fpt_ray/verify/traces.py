"""Train trials for a few steps, in a pack and alone, and keep what can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fpt_ray.training import Evaluation, Slope, Trainer, build_trainer
from fpt_ray.training.pack import Pack, PackedTrial
from fpt_ray.verify.sample import Sample

ROUNDING = torch.finfo(torch.float32).eps
"""The distance from 1 to the next number in fp32."""


@dataclass(slots=True)
class Trace:
    """What some steps of a trial have left behind.

    Attributes:
        start: the trained parameters before the first step.
        end: the same after the last.
        evaluations: one after each step; they end where the trial diverged.
        slopes: gradients before the first step and before the last, by index of the step.
    """

    start: Mapping[str, Tensor]
    end: Mapping[str, Tensor] = field(default_factory=dict)
    evaluations: list[Evaluation] = field(default_factory=list)
    slopes: dict[int, Slope] = field(default_factory=dict)

    @property
    def diverged_at(self) -> int | None:
        """The step at which the trial diverged, if it did."""
        last = self.evaluations[-1]
        return last.step if last.diverged else None


def trace_pack(trials: Sequence[PackedTrial], num_steps: int) -> list[Trace]:
    """Train trials of one key together; one that diverges leaves, and the others go on."""
    pack = Pack(trials[0])
    traces = [Trace(_copied(trial.values())) for trial in trials]
    live = list(zip(trials, traces, strict=True))
    for step in range(num_steps):
        members = [trial for trial, _ in live]
        if step in compared_steps(num_steps):
            for (_, trace), slope in zip(live, pack.slopes(members), strict=True):
                trace.slopes[step] = Slope(slope.loss, _copied(slope.gradients))
        pack.train(members, 1)
        for (trial, trace), evaluation in zip(live, pack.evaluate(members), strict=True):
            trace.evaluations.append(evaluation)
            trace.end = trial.values()
        live = [(trial, trace) for trial, trace in live if not trace.evaluations[-1].diverged]
        if not live:
            break
    return [_ended(trace) for trace in traces]


def trace_alone(
    sample: Sample, num_steps: int, device: str, nudge_seed: int | None = None
) -> Trace:
    """Train a trial alone.

    Args:
        sample: the trial.
        num_steps: updates.
        device: where.
        nudge_seed: draws whether each trained parameter is moved up or down by one unit of rounding
            before each step, which shows how far rounding alone takes this trial; None moves none.
    """
    trainer = build_trainer(sample.settings, sample.seed, device)
    trace = Trace(_copied(trainer.values()))
    signs = None if nudge_seed is None else _signs(trainer, nudge_seed)
    for step in range(num_steps):
        if signs is not None:
            _nudge(trainer, signs)
        if step in compared_steps(num_steps):
            slope = trainer.slope()
            trace.slopes[step] = Slope(slope.loss, _copied(slope.gradients))
        trace.evaluations.append(trainer.advance(1))
        if trace.evaluations[-1].diverged:
            break
    trace.end = trainer.values()
    return _ended(trace)


def compared_steps(num_steps: int) -> tuple[int, int]:
    """Name the steps whose gradients are compared: the first and the last."""
    return 0, num_steps - 1


def _signs(trainer: Trainer, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        for value in trainer.values().values():
            ups = torch.randint(0, 2, value.shape, generator=generator)
            yield (2 * ups - 1).to(value)


@torch.no_grad()
def _nudge(trainer: Trainer, signs: Iterator[Tensor]) -> None:
    for value in trainer.values().values():
        value.mul_(1 + ROUNDING * next(signs))


def _ended(trace: Trace) -> Trace:
    trace.end = _copied(trace.end)
    return trace


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
