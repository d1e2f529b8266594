"""What a task is: a shape, and a pure function from (split, seed, step) to a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor

from fpt_ray.tasks.sources import Loader

Split = Literal["train", "validation", "test"]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences and what is asked about them.

    Attributes:
        tokens: (batch, seq, features) float32, or (batch, seq) int64 ids.
        targets: (batch, decisions) int64 class indices, read token by read token.
        mask: (batch, seq) bool, False at the padding after a sequence's last token; None where
            every token is real.
        rows: (batch,) int64 on the CPU, which sample of the split each sequence is, from 0: equal
            rows have equal tokens and targets, padding aside. None where samples never come back,
            or never the same.
    """

    tokens: Tensor
    targets: Tensor
    mask: Tensor | None = None
    rows: Tensor | None = None


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """The shapes that a model needs to know about a task.

    Attributes:
        seq_length: tokens in a sequence, in the longest one where lengths vary.
        input_kind: ``features`` for (batch, seq, features), ``ids`` for (batch, seq).
        input_size: features of a token, or the number of ids.
        num_read: how many of the last tokens are read.
        decisions_per_token: classifications made at each read token.
        num_classes: classes of a classification.
    """

    seq_length: int
    input_kind: Literal["features", "ids"]
    input_size: int
    num_read: int
    decisions_per_token: int
    num_classes: int

    @property
    def num_logits(self) -> int:
        """Logits at each read token."""
        return self.decisions_per_token * self.num_classes

    @property
    def num_decisions(self) -> int:
        """Classifications made for each sequence."""
        return self.num_read * self.decisions_per_token


@dataclass(frozen=True, slots=True)
class TaskSources:
    """Where a task's data are, and how much of them is for evaluation.

    Attributes:
        data_dir: directory or URI of raw data and prepared shards; None for the per-user cache.
        validation_size: sequences held out for tuning; None for the task's default.
        test_size: sequences of the test split; None for all that are published.
        loader: who hands out the rows; None reads them from the files, decoded once per machine.
    """

    data_dir: Path | str | None = None
    validation_size: int | None = None
    test_size: int | None = None
    loader: Loader | None = field(default=None, compare=False, repr=False)


class Task(Protocol):
    """A task as the trainer sees it; implementations are immutable and hashable."""

    @property
    def spec(self) -> TaskSpec:
        """Shapes, known without reading any data."""
        ...

    def batches(self, split: Split, seed: int, steps: range, batch_size: int) -> Sequence[Batch]:
        """Make the batches of neighbouring steps; each equals what it would be alone, to the bit.

        Args:
            split: which examples to draw from.
            seed: the trial's seed; validation and test do not depend on it.
            steps: optimizer updates made before each batch; for validation and test, indices of
                chunks.
            batch_size: sequences in a batch; a split's last chunk may hold fewer.

        Raises:
            DataError: raw data are missing or damaged.
            ValueError: a step lies beyond the last chunk of validation or test.
        """
        ...

    def batch(self, split: Split, seed: int, step: int, batch_size: int) -> Batch:
        """Make one batch; equal arguments give equal bytes on every machine, in any order."""
        ...

    def num_examples(self, split: Split) -> int | None:
        """Count a split's examples; None where they are generated without end."""
        ...

    def num_skipped(self, split: Split) -> int:
        """Count sequences that cannot be read and that therefore count as answered wrongly."""
        ...

    def fingerprint(self) -> str:
        """Identify the examples: the generator's version, or a hash of the source files.

        Raises:
            DataError: raw data are missing.
        """
        ...


def evaluation_chunks(task: Task, split: Split, chunk_size: int) -> Iterator[Batch]:
    """Deliver the whole of a validation or test split in order, ``chunk_size`` at a time."""
    num_examples = task.num_examples(split)
    if num_examples is None:
        raise ValueError(f"the {split} split has no end")
    for chunk in range(-(-num_examples // chunk_size)):
        yield task.batch(split, 0, chunk, chunk_size)


def chunk_bounds(step: int, batch_size: int, num_examples: int) -> tuple[int, int]:
    """Find the examples of a fixed split's ``step``-th chunk: the first, and after the last.

    Raises:
        ValueError: the chunk lies beyond the split's end.
    """
    start = step * batch_size
    if not 0 <= start < num_examples:
        raise ValueError(f"chunk {step} of {batch_size} lies beyond {num_examples} examples")
    return start, min(start + batch_size, num_examples)
