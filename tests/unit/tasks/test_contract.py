"""What every task must do. A new task is one subclass here."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fpt_ray.tasks import SPLITS, TASKS, Batch, SequenceTask, Split, TaskSources
from fpt_ray.tasks.base import evaluation_chunks
from fpt_ray.tasks.order import POOL_STEPS

DATA_DIR = Path(__file__).parents[2] / "data"
EVALUATION: tuple[Split, ...] = ("validation", "test")
SOURCES = TaskSources(data_dir=DATA_DIR, validation_size=30, test_size=20)

CALLS = st.lists(
    st.tuples(
        st.sampled_from(SPLITS),
        st.integers(0, 2**31 - 1),
        st.integers(0, 4),
    ),
    min_size=1,
    max_size=4,
)


def as_bytes(batch: Batch) -> bytes:
    return batch.tokens.numpy().tobytes() + batch.targets.numpy().tobytes()


def sequences(batch: Batch) -> list[bytes]:
    """Each row's real tokens, whatever it was padded to, and its targets."""
    mask = (
        torch.ones(batch.tokens.shape[:2], dtype=torch.bool) if batch.mask is None else batch.mask
    )
    rows = zip(batch.tokens, batch.targets, mask, strict=True)
    return [as_bytes(Batch(tokens[real], targets)) for tokens, targets, real in rows]


def numbered(batch: Batch) -> list[tuple[int, bytes]]:
    """Each sequence with its row."""
    assert batch.rows is not None
    assert (batch.rows.dtype, batch.rows.shape) == (torch.int64, batch.targets.shape[:1])
    return list(zip(batch.rows.tolist(), sequences(batch), strict=True))


class TaskContract:
    name: ClassVar[str]
    parameters: ClassVar[dict[str, object]] = {}
    fixed: ClassVar[tuple[Split, ...]] = SPLITS
    """Splits with an end whose samples always show the same tokens."""

    def task(self) -> SequenceTask:
        return TASKS[self.name](**self.parameters, sources=SOURCES)

    def test_batches_have_the_specified_shapes(self) -> None:
        spec = self.task().spec
        for split in SPLITS:
            batch = self.task().batch(split, 3, 1, 4)
            length = batch.tokens.shape[1]
            varies = self.task().varies_in_length
            assert length <= spec.seq_length if varies else length == spec.seq_length
            if spec.input_kind == "features":
                assert batch.tokens.shape == (4, length, spec.input_size)
                assert batch.tokens.dtype == torch.float32
            else:
                assert batch.tokens.shape == (4, length)
                assert batch.tokens.dtype == torch.int64
                assert 0 <= batch.tokens.min() <= batch.tokens.max() < spec.input_size
            assert batch.targets.shape == (4, spec.num_decisions)
            assert batch.targets.dtype == torch.int64
            assert 0 <= batch.targets.min() <= batch.targets.max() < spec.num_classes

    def test_padding_stands_at_the_right_and_nowhere_without_need(self) -> None:
        for split in SPLITS:
            batch = self.task().batch(split, 3, 1, 4)
            if batch.mask is not None:
                assert batch.mask.dtype == torch.bool
                assert batch.mask.shape == batch.tokens.shape[:2]
                lengths = batch.mask.sum(dim=1)
                assert torch.equal(batch.mask, torch.arange(lengths.max()) < lengths[:, None])
                assert not batch.tokens[~batch.mask].any()

    def test_equal_arguments_give_equal_bytes_in_any_order(self) -> None:
        # Hypothesis wants a function of its own for each contract, not an inherited method.
        @given(calls=CALLS)
        @settings(deadline=None, max_examples=15)
        def check(calls: list[tuple[Split, int, int]]) -> None:
            forth = [as_bytes(self.task().batch(*call, 4)) for call in calls]
            back = [as_bytes(self.task().batch(*call, 4)) for call in reversed(calls)]
            assert forth == back[::-1]

        check()

    def test_training_batches_differ_by_step_and_seed(self) -> None:
        task = self.task()
        batches = [task.batch("train", seed, step, 8) for seed in (0, 1) for step in (0, 1)]
        assert len({as_bytes(batch) for batch in batches}) == len(batches)

    def test_evaluation_does_not_depend_on_the_seed(self) -> None:
        for split in ("validation", "test"):
            first, second = (self.task().batch(split, seed, 1, 4) for seed in (0, 1))
            assert as_bytes(first) == as_bytes(second)

    def test_evaluation_does_not_depend_on_the_chunk_size(self) -> None:
        for split, size in (("validation", 30), ("test", 20)):
            whole = self.task().batch(split, 0, 0, size)
            chunks = evaluation_chunks(self.task(), split, 7)
            assert [row for chunk in chunks for row in sequences(chunk)] == sequences(whole)

    def test_splits_share_no_sequences(self) -> None:
        task = self.task()
        sizes = {"train": 30, "validation": 30, "test": 20}
        seen = [set(sequences(task.batch(split, 0, 0, size))) for split, size in sizes.items()]
        assert len(set.union(*seen)) == sum(map(len, seen))

    def test_rows_say_which_sample_a_sequence_is(self) -> None:
        for split in self.fixed:
            count = self.task().num_examples(split) or 0
            batches = self.two_epochs(count) if split == "train" else self.whole(split)
            found = [pair for batch in batches for pair in numbered(batch)]
            assert {row for row, _ in found} == set(range(count))
            assert len(set(found)) == count == len({sequence for _, sequence in found})

    def two_epochs(self, count: int) -> list[Batch]:
        steps = -(-2 * count // 16)
        # Batches by length take from neighbouring steps, so that an epoch ends a pool late.
        return list(self.task().batches("train", 5, range(steps + POOL_STEPS), 16))

    def whole(self, split: Split) -> list[Batch]:
        return list(evaluation_chunks(self.task(), split, 7))

    def test_what_never_comes_back_the_same_has_no_rows(self) -> None:
        for split in set(SPLITS) - set(self.fixed):
            assert self.task().batch(split, 0, 1, 4).rows is None

    def test_a_chunk_beyond_the_end_is_refused(self) -> None:
        with pytest.raises(ValueError, match="chunk 3 of 10 lies beyond 30 examples"):
            self.task().batch("validation", 0, 3, 10)

    def test_the_fingerprint_is_stable(self) -> None:
        assert self.task().fingerprint() == self.task().fingerprint() != ""

    def test_tasks_are_values(self) -> None:
        assert self.task() == pickle.loads(pickle.dumps(self.task()))
        assert hash(self.task()) == hash(self.task())


class TestBitXor(TaskContract):
    name = "bit_xor"
    parameters: ClassVar = {"length": 30}
    fixed = EVALUATION


class TestBitMemory(TaskContract):
    name = "bit_memory"
    parameters: ClassVar = {"length": 100}
    fixed = EVALUATION


class TestMnist(TaskContract):
    name = "mnist"


class TestPaddedMnist(TaskContract):
    name = "mnist"
    parameters: ClassVar = {"image_size": 32, "patch_size": 8}


class TestAugmentedMnist(TaskContract):
    name = "mnist"
    parameters: ClassVar = {"augment": True}
    fixed = EVALUATION


class TestCifar10(TaskContract):
    name = "cifar10"
    fixed = EVALUATION


class TestPlainCifar10(TaskContract):
    name = "cifar10"
    parameters: ClassVar = {"augment": False, "patch_size": 16}


class TestCifar10Lra(TaskContract):
    name = "cifar10_lra"
    fixed = EVALUATION


class TestListOps(TaskContract):
    name = "listops"
    parameters: ClassVar = {"max_length": 64, "train_size": 300}


class TestReleasedListOps(TaskContract):
    name = "listops"
    parameters: ClassVar = {"max_length": 64, "train_size": 300, "variant": "released_code"}


class TestListOpsOfLongRangeArena(TaskContract):
    name = "listops"
    parameters: ClassVar = {"origin": "lra", "max_length": 64}


class TestRemoteHomology(TaskContract):
    name = "remote_homology"
    parameters: ClassVar = {"max_length": 40}


class TestFamilyHoldout(TaskContract):
    name = "remote_homology"
    parameters: ClassVar = {"max_length": 40, "holdout": "family"}


class TestReleasedRemoteHomology(TaskContract):
    name = "remote_homology"
    parameters: ClassVar = {"max_length": 42, "variant": "released_code"}
    fixed = ()

    def test_evaluation_does_not_depend_on_the_chunk_size(self) -> None:
        """Its padding is shown to the model, and how much there is follows from the chunk."""
        shown = {}
        for size in (7, 20):
            chunks = evaluation_chunks(self.task(), "test", size)
            shown[size] = [row[row != 0].tolist() for chunk in chunks for row in chunk.tokens]
        assert shown[7] == shown[20]


def test_every_task_has_a_contract() -> None:
    assert {contract.name for contract in TaskContract.__subclasses__()} == set(TASKS)


def test_endless_training_cannot_be_delivered_whole() -> None:
    with pytest.raises(ValueError, match="the train split has no end"):
        next(evaluation_chunks(TASKS["bit_xor"](sources=SOURCES), "train", 4))


def test_neighbouring_steps_share_nothing() -> None:
    task = TASKS["bit_memory"](sources=SOURCES)
    steps = [task.batch("train", 0, step, 2).tokens for step in range(4)]
    assert all((left == right).float().mean() < 0.7 for left, right in pairwise(steps))
