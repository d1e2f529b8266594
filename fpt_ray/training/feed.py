"""Training batches, made by a thread while the model trains on those before them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from fpt_ray.tasks import Batch, Task, TaskSpec
from fpt_ray.tasks.order import POOL_STEPS

BLOCK_BYTES = 8 << 20
"""Tokens that are made together, unless a single batch has more."""


class Feed:
    """Deliver a trial's training batches, on its device.

    Batches are made in blocks of neighbouring steps, one block ahead of training. A block never
    reaches beyond the pool of sequences that are sorted by length together. What was made and not
    yet used is kept for the next run.

    Args:
        task: where batches come from.
        seed: the trial's seed.
        batch_size: sequences in a step.
        num_steps: steps of the whole trial; no batch is made that it cannot use.
        device: where batches are wanted.
    """

    def __init__(
        self, task: Task, seed: int, batch_size: int, num_steps: int, device: torch.device
    ) -> None:
        self._task = task
        self._seed = seed
        self._batch_size = batch_size
        self._num_steps = num_steps
        self._device = device
        self._block_steps = block_steps(task.spec, batch_size)
        self._blocks: dict[range, Future[Sequence[Batch]]] = {}

    def run(self, first_step: int, num_steps: int) -> Generator[Batch, None, None]:
        """Deliver the batches of neighbouring steps, equal to ``task.batch`` to the bit.

        The thread ends with the iterator: close it where it may not be exhausted.

        Args:
            first_step: updates made before.
            num_steps: batches to deliver.

        Raises:
            DataError: from the iterator, where the task cannot make the batch's block.
        """
        thread = ThreadPoolExecutor(1, "feed", self._prepare_thread)
        try:
            for step in range(first_step, first_step + num_steps):
                block = self._make_ahead(thread, step)
                batch = self._blocks[block].result()[step - block.start]
                yield to_device(batch, self._device)
        finally:
            thread.shutdown(cancel_futures=True)
            self._blocks = {block: f for block, f in self._blocks.items() if _succeeded(f)}

    def _make_ahead(self, thread: ThreadPoolExecutor, step: int) -> range:
        """Have a step's block and the next one made; forget all others; return the step's."""
        size, end = self._block_steps, self._num_steps
        start = step // size * size
        wanted = [range(first, min(first + size, end)) for first in (start, start + size)]
        self._blocks = {
            block: self._blocks.get(block) or thread.submit(self._make, block)
            for block in wanted
            if block
        }
        return wanted[0]

    def _make(self, block: range) -> Sequence[Batch]:
        batches = self._task.batches("train", self._seed, block, self._batch_size)
        return batches if self._device.type == "cpu" else [_pinned(batch) for batch in batches]

    def _prepare_thread(self) -> None:
        """Pin memory for the trial's own GPU: a new thread's is the first."""
        if self._device.type == "cuda" and self._device.index is not None:
            torch.cuda.set_device(self._device)


def block_steps(spec: TaskSpec, batch_size: int) -> int:
    """Choose how many steps' batches are made together: a power of 2 up to a whole pool's."""
    token_bytes = 8 if spec.input_kind == "ids" else 4 * spec.input_size
    batch_bytes = batch_size * spec.seq_length * token_bytes
    steps = POOL_STEPS
    while steps > 1 and steps * batch_bytes > BLOCK_BYTES:
        steps //= 2
    return steps


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to a device, its rows aside; from pinned memory, without waiting."""

    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    mask = None if batch.mask is None else move(batch.mask)
    return Batch(move(batch.tokens), move(batch.targets), mask, batch.rows)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to a device without waiting for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _pinned(batch: Batch) -> Batch:
    mask = None if batch.mask is None else batch.mask.pin_memory()
    return Batch(batch.tokens.pin_memory(), batch.targets.pin_memory(), mask, batch.rows)


def _succeeded(made: Future[Sequence[Batch]]) -> bool:
    return made.done() and not made.cancelled() and made.exception() is None
