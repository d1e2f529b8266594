"""Loss and accuracy of several trials on a whole split, computed together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fpt_ray.tasks import Batch, Split
from fpt_ray.tasks.base import evaluation_chunks
from fpt_ray.training.feed import to_device
from fpt_ray.training.pack.compute import Computation, decision_losses, gather
from fpt_ray.training.pack.feeding import PackBatch
from fpt_ray.training.pack.trial import PackedTrial
from fpt_ray.training.results import TestResult
from fpt_ray.training.scoring import chunk_sequences, make_result


@torch.inference_mode()
def score_pack(
    computation: Computation, trials: Sequence[PackedTrial], split: Split
) -> list[TestResult]:
    """Evaluate trials on a split, which is the same for all, as ``score`` does one.

    Args:
        computation: with the trials' values; it is left in evaluation mode.
        trials: the trials.
        split: validation or test.
    """
    computation.model.eval()
    task, count = trials[0].work.task, len(trials)
    size = max(1, chunk_sequences(task.spec) // count)
    device = trials[0].parts.device
    loss = torch.zeros(count, dtype=torch.float64, device=device)
    correct = torch.zeros(count, dtype=torch.int64, device=device)
    stores = [trial.parts.stores.of(split) for trial in trials]
    num_examples = 0
    for chunk in evaluation_chunks(task, split, size):
        batch = _repeated(to_device(chunk, device), count)
        logits = computation.logits(batch, gather(batch, stores))
        targets = batch.whole.targets
        loss += decision_losses(logits, targets).sum(dim=1, dtype=torch.float64)
        guesses = logits.reshape(*targets.shape, -1).argmax(dim=-1)
        correct += (guesses == targets).flatten(1).sum(dim=1)
        num_examples += len(chunk.targets)
    figures = zip(loss.tolist(), correct.tolist(), strict=True)
    return [make_result(summed, right, num_examples, task, split) for summed, right in figures]


def _repeated(chunk: Batch, count: int) -> PackBatch:
    """Show the same sequences to all trials."""
    tokens, targets = (every.expand(count, *every.shape) for every in (chunk.tokens, chunk.targets))
    mask = None if chunk.mask is None else chunk.mask.expand(count, *chunk.mask.shape)
    rows = None if chunk.rows is None else chunk.rows.expand(count, -1)
    return PackBatch(Batch(tokens, targets, mask, rows))
