"""Try out how long a step of a pack takes, without data and without changing any trial."""

from __future__ import annotations

from time import perf_counter

import torch
from torch import Tensor

from fpt_ray.tasks import Batch
from fpt_ray.training.pack.adam import make_adam
from fpt_ray.training.pack.bench import Bench
from fpt_ray.training.pack.feeding import PackBatch
from fpt_ray.training.pack.trial import PackedTrial
from fpt_ray.training.steps import own_randomness

NUM_STEPS = 2
"""Steps that are tried; the fastest counts, since the first one pays for what is set up."""


def rehearse(bench: Bench, trial: PackedTrial, num_copies: int) -> float:
    """Make steps with copies of a trial on empty sequences; return the seconds of one.

    Args:
        bench: of the trial's key.
        trial: the trial; it does not change.
        num_copies: trials in the pack.
    """
    copies = [trial] * num_copies
    rows = bench.stack(copies)
    computation = bench.bind(rows)
    batch, held = _empty_batch(trial, num_copies), _empty_held(trial, num_copies)
    adam = make_adam(rows, copies, NUM_STEPS)
    computation.model.train()
    times = []
    try:
        with own_randomness(bench.device):
            for _ in range(NUM_STEPS):
                started = _now(bench.device)
                _, norms = computation.backward(rows, batch, held)
                adam.update(norms, ())
                times.append(_now(bench.device) - started)
    finally:
        bench.rebind()
    return min(times)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def _empty_batch(trial: PackedTrial, num_copies: int) -> PackBatch:
    """Make sequences of full length, with a mask if the task's have one."""
    task, size, device = trial.work.task, trial.work.recipe.batch_size, trial.parts.device
    spec = task.spec
    shape = (num_copies, size, spec.seq_length)
    if spec.input_kind == "ids":
        tokens = torch.zeros(shape, dtype=torch.int64, device=device)
    else:
        tokens = torch.zeros(*shape, spec.input_size, device=device)
    targets = torch.zeros(*shape[:2], spec.num_decisions, dtype=torch.int64, device=device)
    has_mask = task.batch("validation", 0, 0, 1).mask is not None
    mask = torch.ones(shape, dtype=torch.bool, device=device) if has_mask else None
    return PackBatch(Batch(tokens, targets, mask))


def _empty_held(trial: PackedTrial, num_copies: int) -> Tensor | None:
    parts, size = trial.parts, trial.work.recipe.batch_size
    if parts.cut is None or parts.stores.train is None:
        return None
    return torch.zeros(num_copies, size, *parts.cut.shape, device=parts.device)
