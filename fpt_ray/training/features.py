"""Activations that training does not change, computed once for each sample and kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from fpt_ray.models import SequenceModel
from fpt_ray.models.cuts import Cut, find_cut
from fpt_ray.tasks import Batch, Split, Task, TaskSpec
from fpt_ray.training.feed import send

MAX_BYTES = 2 * 2**30
"""Memory for the activations of one trial, on its device."""

_LOG = logging.getLogger(__name__)


class Store:
    """What a model computes of one split's samples below a cut, kept from their first batch on.

    Nothing trained lies below the cut, so what is kept stays right as long as the store lives. It
    is a memory and no state: a resumed trial fills it anew. Trials that are equal below the cut may
    share it.

    Args:
        model: the model.
        cut: of the model.
        num_samples: samples of the split.
    """

    def __init__(self, model: SequenceModel, cut: Cut, num_samples: int) -> None:
        self._model = model
        self._cut = cut
        self._values: Tensor | None = None
        self._is_held = torch.zeros(num_samples, dtype=torch.bool)

    @property
    def num_bytes(self) -> int:
        """Count the bytes of all activations, once they are there."""
        return len(self._is_held) * sample_bytes(self._cut)

    def logits(self, batch: Batch) -> Tensor:
        """Compute a batch's logits, what is below the cut only for samples that are new.

        Args:
            batch: on the model's device; without rows it goes through the whole model.
        """
        if batch.rows is None:
            whole: Tensor = self._model(batch.tokens, batch.mask)
            return whole
        return self._cut.above(self.held(batch, batch.rows), batch.tokens, batch.mask)

    def held(self, batch: Batch, rows: Tensor) -> Tensor:
        """Give a batch's activations at the cut, computing those of samples that are new.

        Args:
            batch: on the model's device.
            rows: (batch,) int64 on the CPU, its samples.

        Returns:
            (batch, length, features).
        """
        length = self._cut.length(batch.tokens)
        values = self._fill(batch, rows, length)
        return values[send(rows, values.device), :length]

    @torch.no_grad()
    def _fill(self, batch: Batch, rows: Tensor, length: int) -> Tensor:
        """Compute what is missing of a batch; return the activations of all samples."""
        if self._values is None:
            # Zeros, since attention multiplies what stands at padding with a weight of 0.
            shape = (len(self._is_held), *self._cut.shape)
            self._values = torch.zeros(shape, device=batch.tokens.device)
        new = (~self._is_held[rows]).nonzero().flatten()
        if len(new):
            chosen = send(new, batch.tokens.device)
            mask = None if batch.mask is None else batch.mask[chosen]
            with _without_dropout(self._model):
                found = self._cut.below(batch.tokens[chosen], mask)
            self._values[send(rows[new], found.device), :length] = found
            self._is_held[rows[new]] = True
        return self._values


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of a trial; None where every batch goes through the whole model.

    Test, which is read once, has none.
    """

    train: Store | None = None
    validation: Store | None = None

    def of(self, split: Split) -> Store | None:
        """Give a split's store, if it has one."""
        return {"train": self.train, "validation": self.validation}.get(split)


def plan_stores(
    model: SequenceModel, task: Task, num_trained_on: int, device: torch.device
) -> Stores:
    """Decide what of a trial is worth keeping, and fits into ``MAX_BYTES``.

    Args:
        model: materialised on ``device``.
        task: the task that it was built for.
        num_trained_on: sequences in all batches of the trial together.
        device: where to compute.
    """
    cut = find_cut(model, example(task.spec, device))
    if cut is None:
        return Stores()
    left, kept = MAX_BYTES, []
    sizes = worth_keeping(model, task, num_trained_on)
    for split, size in sizes.items():
        num_bytes = size * sample_bytes(cut)
        if fits(split, num_bytes, left):
            left -= num_bytes
            kept.append(split)
    return Stores(**{split: Store(model, cut, sizes[split]) for split in kept})


def worth_keeping(model: SequenceModel, task: Task, num_trained_on: int) -> dict[Split, int]:
    """Choose the splits of which activations are worth keeping, with their numbers of samples.

    Training needs a data set that it sees more than once, and no dropout. Evaluation has neither
    need. Validation comes first, since it is the smaller one and read most often. Augmented samples
    have no rows in their batches, and are never kept.

    Args:
        model: the model.
        task: the task that it was built for.
        num_trained_on: sequences in all batches of the trial together.
    """
    sizes: dict[Split, int] = {"validation": task.num_examples("validation") or 0}
    num_train = task.num_examples("train")
    if num_train is not None and num_train < num_trained_on and model.dropout.p == 0:
        sizes["train"] = num_train
    return sizes


def sample_bytes(cut: Cut) -> int:
    """Count the bytes of one sample's activations at a cut."""
    return 4 * cut.shape[0] * cut.shape[1]


def fits(split: Split, num_bytes: int, left: int) -> bool:
    """Tell whether a split's activations fit into what is left; say so where they do not."""
    if num_bytes > left:
        _LOG.info("activations of the %s split would fill %d bytes", split, num_bytes)
    return num_bytes <= left


@contextmanager
def _without_dropout(model: SequenceModel) -> Iterator[None]:
    """Have a model compute as in evaluation, whatever it does at the time."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def compute_logits(model: SequenceModel, batch: Batch, store: Store | None) -> Tensor:
    """Compute a batch's logits, from what is kept of it where there is a store."""
    if store is not None:
        return store.logits(batch)
    logits: Tensor = model(batch.tokens, batch.mask)
    return logits


def example(spec: TaskSpec, device: torch.device) -> Tensor:
    """Make one sequence of a task's full length, of any content."""
    if spec.input_kind == "ids":
        return torch.zeros(1, spec.seq_length, dtype=torch.int64, device=device)
    return torch.zeros(1, spec.seq_length, spec.input_size, device=device)
