"""Training batches of a pack: each trial's own, made ahead and stacked."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import torch
from torch import Tensor

from fpt_ray.tasks import Batch, Task
from fpt_ray.training.feed import block_steps, to_device
from fpt_ray.training.pack.trial import PackedTrial, TrialFault

THREADS = {"cpu": 1}
"""Threads that make batches: beside a CPU's own work one, elsewhere `MANY`."""

MANY = 4

_Identity = tuple[Task, int, int]


class Source:
    """One stream of training batches, of one task, seed and batch size, for all who read it.

    Blocks are made as ``Feed`` makes them: of neighbouring steps, one ahead.

    Args:
        identity: task, seed and batch size.
        end: no step from here on is made.
    """

    def __init__(self, identity: _Identity, end: int) -> None:
        self._task, self._seed, self._batch_size = identity
        self._block_steps = block_steps(self._task.spec, self._batch_size)
        self._blocks: dict[range, Future[Sequence[Batch]]] = {}
        self._last: Future[Sequence[Batch]] | None = None
        self.end = end

    def make_ahead(self, pool: ThreadPoolExecutor, steps: Iterable[int]) -> None:
        """Have the blocks of these steps and those after them made; forget all others."""
        wanted = {block for step in steps for block in self._blocks_at(step)}
        fresh = wanted - self._blocks.keys()
        self._blocks = {block: made for block, made in self._blocks.items() if block in wanted}
        for block in sorted(fresh, key=lambda block: block.start):
            # A stream of rows is read from its start to its end: one block after the other.
            self._last = self._blocks[block] = pool.submit(self._make, block, self._last)

    def begins_block(self, step: int) -> bool:
        """Tell whether a step is the first of its block."""
        return step % self._block_steps == 0

    def batch(self, step: int) -> Batch:
        """Wait for the batch of a step."""
        block = self._blocks_at(step)[0]
        return self._blocks[block].result()[step - block.start]

    def settle(self) -> None:
        """Forget what was not made."""
        self._blocks = {block: made for block, made in self._blocks.items() if _succeeded(made)}
        self._last = None

    def _blocks_at(self, step: int) -> list[range]:
        start = step // self._block_steps * self._block_steps
        starts = (start, start + self._block_steps)
        blocks = (range(first, min(first + self._block_steps, self.end)) for first in starts)
        return [block for block in blocks if block]

    def _make(self, block: range, before: Future[Sequence[Batch]] | None) -> Sequence[Batch]:
        if before is not None:
            wait([before])
        return self._task.batches("train", self._seed, block, self._batch_size)


@dataclass(frozen=True, slots=True)
class PackBatch:
    """The trials' batches of one step, stacked.

    Attributes:
        whole: (trials, batch, ...) tokens, targets and mask on the device, padded to the longest
            sequence of any trial; (trials, batch) rows on the CPU.
    """

    whole: Batch

    def of(self, trial: int) -> Batch:
        """Give one trial's batch, padded as the others."""
        whole = self.whole
        mask, rows = (None if every is None else every[trial] for every in (whole.mask, whole.rows))
        return Batch(whole.tokens[trial], whole.targets[trial], mask, rows)


class PackFeed:
    """Deliver the batches of a pack's trials, on its device.

    Trials with the same task, seed and batch size share what is made. What was made and not yet
    used is kept for the next run.

    Args:
        device: where batches are wanted.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sources: dict[_Identity, Source] = {}

    def run(
        self, trials: Sequence[PackedTrial], num_steps: int
    ) -> Generator[PackBatch, None, None]:
        """Deliver the batches of neighbouring steps, each trial's from its own step on.

        The threads end with the iterator: close it where it may not be exhausted.

        Raises:
            TrialFault: from the iterator, where one trial's batch cannot be made.
        """
        readers = self._readers(trials)
        pool = ThreadPoolExecutor(THREADS.get(self._device.type, MANY), "feed")
        try:
            for index in range(num_steps):
                self._make_ahead(pool, readers, index)
                batches = [_read(*reader, index) for reader in readers]
                yield PackBatch(
                    to_device(stack(batches, self._device.type == "cuda"), self._device)
                )
        finally:
            pool.shutdown(cancel_futures=True)
            for source in self._sources.values():
                source.settle()

    def _readers(self, trials: Sequence[PackedTrial]) -> list[tuple[PackedTrial, Source]]:
        """Find each trial's source; forget those that nobody reads."""
        identities = [_identity(trial) for trial in trials]
        ends: dict[_Identity, int] = {}
        for trial, identity in zip(trials, identities, strict=True):
            ends[identity] = max(ends.get(identity, 0), trial.work.plan.max_steps)
        known = self._sources
        self._sources = {
            found: known.get(found) or Source(found, end) for found, end in ends.items()
        }
        for identity, end in ends.items():
            self._sources[identity].end = end
        return [(t, self._sources[i]) for t, i in zip(trials, identities, strict=True)]

    def _make_ahead(
        self, pool: ThreadPoolExecutor, readers: list[tuple[PackedTrial, Source]], index: int
    ) -> None:
        """Have made what is needed next, at the first step and where a block begins."""
        steps: dict[Source, list[int]] = {}
        for trial, source in readers:
            steps.setdefault(source, []).append(trial.step + index)
        for source, wanted in steps.items():
            if index == 0 or any(map(source.begins_block, wanted)):
                source.make_ahead(pool, wanted)


def stack(batches: Sequence[Batch], pinned: bool = False) -> Batch:
    """Stack the trials' batches on the CPU, padding all to the longest.

    Args:
        batches: (batch, seq, ...) of each trial.
        pinned: into pinned memory, from which a GPU reads without anybody waiting.

    Returns:
        (trials, batch, longest, ...) tokens, (trials, batch, decisions) targets, a mask if any
        sequence has padding, and (trials, batch) rows if all have them.
    """
    longest = max(batch.tokens.shape[1] for batch in batches)
    ragged = any(b.mask is not None or b.tokens.shape[1] < longest for b in batches)
    mask = _stacked([_mask(b, longest) for b in batches], pinned) if ragged else None
    rows = [batch.rows for batch in batches if batch.rows is not None]
    return Batch(
        _stacked([_padded(batch.tokens, longest) for batch in batches], pinned),
        _stacked([batch.targets for batch in batches], pinned),
        mask,
        torch.stack(rows) if len(rows) == len(batches) else None,
    )


def _identity(trial: PackedTrial) -> _Identity:
    work = trial.work
    return work.task, work.plan.seed, work.recipe.batch_size


def _read(trial: PackedTrial, source: Source, index: int) -> Batch:
    try:
        return source.batch(trial.step + index)
    except Exception as error:
        raise TrialFault(trial, error) from error


def _stacked(tensors: Sequence[Tensor], pinned: bool) -> Tensor:
    if not pinned:
        return torch.stack(list(tensors)) if len(tensors) > 1 else tensors[0].unsqueeze(0)
    shape = (len(tensors), *tensors[0].shape)
    out = torch.empty(shape, dtype=tensors[0].dtype, pin_memory=True)
    return torch.stack(list(tensors), out=out)


def _padded(tokens: Tensor, length: int) -> Tensor:
    missing = length - tokens.shape[1]
    return tokens if not missing else torch.cat([tokens, _zeros(tokens, missing)], dim=1)


def _mask(batch: Batch, length: int) -> Tensor:
    shown = batch.tokens.shape[:2]
    mask = torch.ones(shown, dtype=torch.bool) if batch.mask is None else batch.mask
    return _padded(mask, length)


def _zeros(like: Tensor, length: int) -> Tensor:
    return like.new_zeros(like.shape[0], length, *like.shape[2:])


def _succeeded(made: Future[Sequence[Batch]]) -> bool:
    return made.done() and not made.cancelled() and made.exception() is None
