"""What all tasks share: batches made from a stream of rows, or from a fixed evaluation split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fpt_ray.tasks.base import Batch, Split, TaskSources, TaskSpec, chunk_bounds
from fpt_ray.tasks.examples import Examples
from fpt_ray.tasks.order import bucketed, pool_of

Fetch = Callable[[int, int], Examples]
"""Delivers the rows from a first to before a last position of a trial's training stream."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where training rows stand: what their random augmentation follows from.

    Attributes:
        seed: the trial's seed.
        start: position of the first row in the trial's stream; the others follow it.
    """

    seed: int
    start: int


class SequenceTask(ABC):
    """A task whose training rows form an endless stream for each seed.

    Subclasses are frozen dataclasses with a field ``sources``.
    """

    sources: TaskSources
    version: ClassVar[str]
    """Name of the task's random streams; changing what they give needs a new one."""

    @property
    def varies_in_length(self) -> bool:
        """Whether sequences differ in length and are batched by it."""
        return False

    @property
    @abstractmethod
    def spec(self) -> TaskSpec:
        """Shapes of the task."""

    def is_fixed(self, split: Split) -> bool:
        """Whether a split has an end and its samples show the same tokens whenever they are read.

        Padding aside, unless it is shown to the model.
        """
        return split != "train"

    def stream_samples(self, seed: int, start: int, stop: int) -> NDArray[np.int64]:
        """Number the samples at positions of a seed's stream, where training ``is_fixed``.

        Raises:
            ValueError: it is not.
        """
        raise ValueError("training samples are drawn without end, or never the same twice")

    @abstractmethod
    def stream(self, seed: int, start: int, stop: int) -> Examples:
        """Read the training rows at positions ``start`` to before ``stop`` of a seed's stream."""

    @abstractmethod
    def evaluation_rows(self, split: Split, start: int, stop: int) -> Examples:
        """Read rows of validation or test, in the order in which they are evaluated."""

    @abstractmethod
    def collate(self, examples: Examples, origin: Origin | None) -> Batch:
        """Turn rows into one batch.

        Args:
            examples: the rows.
            origin: where training rows stand in their stream, for augmentation; None where there
                shall be none.
        """

    @abstractmethod
    def num_examples(self, split: Split) -> int | None:
        """Count a split's examples; None where they are generated without end."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Identify the examples."""

    def num_skipped(self, split: Split) -> int:
        """Count sequences that count as answered wrongly; most tasks can read all of theirs."""
        return 0

    def batch(self, split: Split, seed: int, step: int, batch_size: int) -> Batch:
        """Make one batch, as ``Task.batch`` says."""
        return self.batches(split, seed, range(step, step + 1), batch_size)[0]

    def batches(self, split: Split, seed: int, steps: range, batch_size: int) -> Sequence[Batch]:
        """Make the batches of neighbouring steps, as ``Task.batches`` says."""
        if split != "train":
            return [self._evaluation_batch(split, step, batch_size) for step in steps]

        def fetch(start: int, stop: int) -> Examples:
            return self.stream(seed, start, stop)

        return self.assemble(seed, steps, batch_size, fetch)

    def assemble(self, seed: int, steps: range, batch_size: int, fetch: Fetch) -> Sequence[Batch]:
        """Make training batches from rows that someone else delivers.

        Args:
            seed: the trial's seed.
            steps: neighbouring steps.
            batch_size: sequences in a batch.
            fetch: delivers the rows.
        """
        if self.varies_in_length:
            return list(self._assemble_by_length(seed, steps, batch_size, fetch))
        start, stop = steps.start * batch_size, steps.stop * batch_size
        whole = self.collate(fetch(start, stop), Origin(seed, start))
        tokens, targets = (
            every.reshape(len(steps), batch_size, *every.shape[1:]).unbind()
            for every in (whole.tokens, whole.targets)
        )
        if not self.is_fixed("train"):
            return list(map(Batch, tokens, targets))
        rows = torch.from_numpy(self.stream_samples(seed, start, stop))
        by_step = zip(tokens, targets, rows.reshape(-1, batch_size), strict=True)
        return [Batch(shown, asked, rows=which) for shown, asked, which in by_step]

    def _assemble_by_length(
        self, seed: int, steps: range, batch_size: int, fetch: Fetch
    ) -> Iterator[Batch]:
        step = steps.start
        while step < steps.stop:
            pool = pool_of(step)
            start, stop = pool.start * batch_size, pool.stop * batch_size
            rows = fetch(start, stop)
            samples = self.stream_samples(seed, start, stop) if self.is_fixed("train") else None
            chosen = bucketed(seed, self.version, pool, rows.lengths)
            last = min(pool.stop, steps.stop)
            for row_numbers in chosen[step - pool.start : last - pool.start]:
                batch = self.collate(rows.take(row_numbers), None)
                yield _numbered(batch, None if samples is None else samples[row_numbers])
            step = last

    def _evaluation_batch(self, split: Split, step: int, batch_size: int) -> Batch:
        count = self.num_examples(split)
        if count is None:
            raise ValueError(f"the {split} split has no end")
        start, stop = chunk_bounds(step, batch_size, count)
        batch = self.collate(self.evaluation_rows(split, start, stop), None)
        return _numbered(batch, np.arange(start, stop) if self.is_fixed(split) else None)


def _numbered(batch: Batch, samples: NDArray[np.int64] | None) -> Batch:
    return batch if samples is None else replace(batch, rows=torch.from_numpy(samples))
