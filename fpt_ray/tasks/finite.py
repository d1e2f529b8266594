"""What tasks with a published data set share: splits, held-out rows, and the order of training."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fpt_ray.errors import DataError
from fpt_ray.seeding import derive_seed
from fpt_ray.tasks.base import Split
from fpt_ray.tasks.examples import Examples
from fpt_ray.tasks.local import LocalLoader
from fpt_ray.tasks.order import split_rows, stream_positions
from fpt_ray.tasks.randomness import random_order
from fpt_ray.tasks.sequence_task import SequenceTask
from fpt_ray.tasks.sources import Loader, Source

_LENGTHS_AT_A_TIME = 4096


class FiniteTask(SequenceTask):
    """A task that trains on a published set of examples, again and again in new orders.

    Validation is a published split of its own where there is one; otherwise it is held out of the
    training set by a fixed seed.
    """

    validation_size: ClassVar[int | None] = None
    """Validation examples where ``sources`` names no number; None for a whole published split."""
    fix_for_dropped: ClassVar[str] = "point data.dir at complete data"
    """What to do where every row of a split had to be dropped."""

    @property
    @abstractmethod
    def source(self) -> Source:
        """The raw data."""

    def published_split(self, split: Split) -> str | None:
        """Name the published split behind one of ours; None where it is held out of training."""
        return {"train": "train", "validation": None, "test": "test"}[split]

    @property
    def loader(self) -> Loader:
        """Who hands out rows."""
        return self.sources.loader or LocalLoader(self.sources.data_dir)

    def is_fixed(self, split: Split) -> bool:
        """Whether samples show the same tokens whenever they are read: all published ones do."""
        return True

    def stream_samples(self, seed: int, start: int, stop: int) -> NDArray[np.int64]:
        """Number the samples at positions of a seed's stream among those of training."""
        count = self.num_examples("train")
        return stream_positions(seed, self.version, count, start, stop)

    def stream(self, seed: int, start: int, stop: int) -> Examples:
        """Read training rows, as ``SequenceTask.stream`` says."""
        return self.loader.take(self.source, "train", self.stream_rows(seed, start, stop))

    def stream_rows(self, seed: int, start: int, stop: int) -> NDArray[np.int64]:
        """Find the rows of the published training split behind positions of a seed's stream."""
        return self._train_rows()[self.stream_samples(seed, start, stop)]

    def evaluation_rows(self, split: Split, start: int, stop: int) -> Examples:
        """Read rows of validation or test, shortest first where their lengths vary."""
        published = self.published_split(split) or "train"
        return self.loader.take(self.source, published, self.evaluation_order(split)[start:stop])

    def evaluation_order(self, split: Split) -> NDArray[np.int64]:
        """List the published rows of validation or test in the order of their evaluation."""
        rows = self._chosen_rows(split)
        return _by_length(self, split, len(rows)) if self.varies_in_length else rows

    def num_examples(self, split: Split) -> int:
        """Count a split's examples.

        Raises:
            DataError: the data hold fewer examples than ``sources`` asks for.
        """
        if split == "train":
            return len(self._train_rows())
        return len(self._chosen_rows(split))

    def fingerprint(self) -> str:
        """Hash the source files and name the version of the split."""
        return f"{self.version}-{self.loader.fingerprint(self.source)}"

    def _train_rows(self) -> NDArray[np.int64]:
        num_published = self._num_kept("train")
        if self.published_split("validation"):
            return np.arange(num_published)
        return split_rows(self.version, num_published, self._num_held_out(num_published))[0]

    def _chosen_rows(self, split: Split) -> NDArray[np.int64]:
        """Choose the published rows of validation or test."""
        published = self.published_split(split)
        if published is None:
            count = self._num_kept("train")
            return split_rows(self.version, count, self._num_held_out(count))[1]
        count = self._num_kept(published)
        wanted = self._wanted(split) or count
        if wanted > count:
            raise DataError(
                f"{wanted} {split} examples are asked for, but only {count} are published",
                where=f"training.{split}_size",
                fix=f"leave it out, or ask for at most {count}",
            )
        if split == "test" or wanted == count:
            return np.arange(wanted)
        return random_order(derive_seed(0, self.version, "validation"), count)[:wanted]

    def _num_kept(self, published: str) -> int:
        count = self.loader.count(self.source, published)
        if not count.kept:
            raise DataError(
                f"none of the {count.dropped} rows of {self.source.name}'s {published} split can be"
                " used",
                where="task",
                fix=self.fix_for_dropped,
            )
        return count.kept

    def _wanted(self, split: Split) -> int | None:
        if split == "test":
            return self.sources.test_size
        return self.sources.validation_size or self.validation_size

    def _num_held_out(self, num_published: int) -> int:
        held_out = self._wanted("validation")
        if held_out is None or held_out >= num_published:
            raise DataError(
                f"{held_out} examples for validation leave none of {num_published} to train",
                where="training.validation_size",
                fix=f"hold out fewer than {num_published}",
            )
        return held_out


@lru_cache(maxsize=8)
def _by_length(task: FiniteTask, split: Split, count: int) -> NDArray[np.int64]:
    """Sort an evaluation split by length, so that little of a chunk is padding."""
    rows = task._chosen_rows(split)
    published = task.published_split(split) or "train"
    lengths = [
        task.loader.take(task.source, published, rows[start : start + _LENGTHS_AT_A_TIME]).lengths
        for start in range(0, count, _LENGTHS_AT_A_TIME)
    ]
    return rows[np.argsort(np.concatenate(lengths), kind="stable")]
