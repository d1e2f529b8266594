"""Loss and accuracy, of a batch and of a whole split."""

from __future__ import annotations

import torch
from torch import Tensor

from fpt_ray.models import SequenceModel
from fpt_ray.tasks import Split, Task, TaskSpec
from fpt_ray.tasks.base import evaluation_chunks
from fpt_ray.training.features import Store, compute_logits
from fpt_ray.training.feed import to_device
from fpt_ray.training.results import TestResult

MAX_CHUNK_SEQUENCES = 256
MAX_CHUNK_TOKENS = 16_384


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Compare logits with targets, decision by decision.

    Args:
        logits: (batch, num_read, decisions_per_token * classes).
        targets: (batch, num_read * decisions_per_token) int64.
        reduction: ``mean`` or ``sum`` over all decisions.

    Returns:
        A scalar in nats, float32.
    """
    by_decision = logits.float().reshape(targets.numel(), -1)
    return torch.nn.functional.cross_entropy(by_decision, targets.flatten(), reduction=reduction)


def chunk_sequences(spec: TaskSpec) -> int:
    """Choose how many sequences are evaluated together."""
    return max(1, min(MAX_CHUNK_SEQUENCES, MAX_CHUNK_TOKENS // spec.seq_length))


@torch.inference_mode()
def score(
    model: SequenceModel,
    task: Task,
    split: Split,
    device: torch.device,
    bf16: bool = False,
    store: Store | None = None,
) -> TestResult:
    """Evaluate a model on a whole split, without dropout; skipped sequences count as wrong.

    Args:
        model: on ``device``; it is left in evaluation mode.
        task: the task that it was built for.
        split: validation or test.
        device: where to compute.
        bf16: compute in bfloat16 under autocast.
        store: of the split, where activations are kept.
    """
    model.eval()
    chunk_size = chunk_sequences(task.spec)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    num_examples = 0
    for chunk in evaluation_chunks(task, split, chunk_size):
        batch = to_device(chunk, device)
        targets = batch.targets
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits = compute_logits(model, batch, store)
        loss += cross_entropy(logits, targets, reduction="sum")
        guesses = logits.reshape(targets.numel(), -1).argmax(dim=-1)
        correct += (guesses == targets.flatten()).sum()
        num_examples += len(targets)
    return make_result(loss.item(), int(correct.item()), num_examples, task, split)


def make_result(
    loss: float, correct: int, num_examples: int, task: Task, split: Split
) -> TestResult:
    """Make a result of what was counted over a whole split.

    Args:
        loss: sum over all decisions, in nats.
        correct: right decisions.
        num_examples: sequences read.
        task: the task.
        split: the split.
    """
    per_sequence, num_skipped = task.spec.num_decisions, task.num_skipped(split)
    num_decisions = (num_examples + num_skipped) * per_sequence
    return TestResult(
        loss=loss / (num_examples * per_sequence),
        accuracy=correct / num_decisions,
        num_examples=num_examples,
        num_decisions=num_decisions,
        num_skipped=num_skipped,
    )
