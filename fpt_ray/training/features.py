"""Activations that training does not change, computed once for each sample and kept."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from fpt_ray.models import SequenceModel
from fpt_ray.models.cuts import Cut, find_cut
from fpt_ray.tasks import Batch, Split, Task, TaskSpec

MAX_BYTES = 2 * 2**30
"""Memory for the activations of one trial, on its device."""

_LOG = logging.getLogger(__name__)


class Store:
    """What a model computes of one split's samples below a cut, kept from their first batch on.

    Nothing trained lies below the cut, so what is kept stays right as long as the trial lives. It
    is a memory and no state: a resumed trial fills it anew.

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

    def logits(self, batch: Batch) -> Tensor:
        """Compute a batch's logits, what is below the cut only for samples that are new.

        Args:
            batch: on the model's device; without rows it goes through the whole model.
        """
        if batch.rows is None:
            whole: Tensor = self._model(batch.tokens, batch.mask)
            return whole
        length = self._cut.length(batch.tokens)
        values = self._fill(batch, batch.rows, length)
        held = values[batch.rows.to(values.device), :length]
        return self._cut.above(held, batch.tokens, batch.mask)

    @torch.no_grad()
    def _fill(self, batch: Batch, rows: Tensor, length: int) -> Tensor:
        """Compute what is missing of a batch; return the activations of all samples."""
        if self._values is None:
            # Zeros, since attention multiplies what stands at padding with a weight of 0.
            shape = (len(self._is_held), *self._cut.shape)
            self._values = torch.zeros(shape, device=batch.tokens.device)
        new = (~self._is_held[rows]).nonzero().flatten()
        if len(new):
            chosen = new.to(batch.tokens.device)
            mask = None if batch.mask is None else batch.mask[chosen]
            found = self._cut.below(batch.tokens[chosen], mask)
            self._values[rows[new].to(found.device), :length] = found
            self._is_held[rows[new]] = True
        return self._values


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of a trial; None where every batch goes through the whole model.

    Test, which is read once, has none.
    """

    train: Store | None = None
    validation: Store | None = None


def plan_stores(
    model: SequenceModel, task: Task, num_trained_on: int, device: torch.device
) -> Stores:
    """Decide what of a trial is worth keeping, and fits.

    Training needs a data set that it sees more than once, and no dropout. Evaluation has neither
    need. Either needs a cut (see ``find_cut``), and activations of its whole split that fit into
    what ``MAX_BYTES`` leaves: validation first, since it is the smaller one and read most often.
    Augmented samples have no rows in their batches, and are never kept.

    Args:
        model: materialised on ``device``.
        task: the task that it was built for.
        num_trained_on: sequences in all batches of the trial together.
        device: where to compute.
    """
    cut = find_cut(model, _example(task.spec, device))
    if cut is None:
        return Stores()
    sizes: dict[Split, int] = {"validation": task.num_examples("validation") or 0}
    num_train = task.num_examples("train")
    if num_train is not None and num_train < num_trained_on and model.dropout.p == 0:
        sizes["train"] = num_train
    sample_bytes = 4 * cut.shape[0] * cut.shape[1]
    left, kept = MAX_BYTES, []
    for split, size in sizes.items():
        if size * sample_bytes <= left:
            left -= size * sample_bytes
            kept.append(split)
        else:
            _LOG.info("activations of the %s split would fill %d bytes", split, size * sample_bytes)
    return Stores(**{split: Store(model, cut, sizes[split]) for split in kept})


def compute_logits(model: SequenceModel, batch: Batch, store: Store | None) -> Tensor:
    """Compute a batch's logits, from what is kept of it where there is a store."""
    if store is not None:
        return store.logits(batch)
    logits: Tensor = model(batch.tokens, batch.mask)
    return logits


def _example(spec: TaskSpec, device: torch.device) -> Tensor:
    if spec.input_kind == "ids":
        return torch.zeros(1, spec.seq_length, dtype=torch.int64, device=device)
    return torch.zeros(1, spec.seq_length, spec.input_size, device=device)
