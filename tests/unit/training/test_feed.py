"""Batches that a thread makes ahead of training."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import pytest
import torch

from fpt_ray.errors import DataError
from fpt_ray.tasks import Batch, BitMemory, BitXor, Split, TaskSpec
from fpt_ray.tasks.order import POOL_STEPS
from fpt_ray.training.feed import BLOCK_BYTES, Feed, block_steps, to_device

CPU = torch.device("cpu")
PATIENCE_S = 30


@dataclass(frozen=True)
class Recorded(BitXor):
    """Bit XOR that notes the steps it is asked for."""

    calls: list[range] = field(default_factory=list, compare=False)

    def batches(self, split: Split, seed: int, steps: range, batch_size: int) -> Sequence[Batch]:
        assert split == "train"
        self.calls.append(steps)
        return super().batches(split, seed, steps, batch_size)


@dataclass(frozen=True)
class Damaged(Recorded):
    """Bit XOR whose data are damaged at steps 39 and later, until they are mended."""

    faults: list[str] = field(default_factory=lambda: ["cut"], compare=False)

    def batches(self, split: Split, seed: int, steps: range, batch_size: int) -> Sequence[Batch]:
        if steps.stop > 39 and self.faults:
            raise DataError("the file is damaged", where="train.parquet", fix="copy it again")
        return super().batches(split, seed, steps, batch_size)


@dataclass(frozen=True)
class Gated(Recorded):
    """Bit XOR that makes each block only once it may."""

    begun: dict[int, threading.Event] = field(default_factory=dict, compare=False)
    allowed: dict[int, threading.Event] = field(default_factory=dict, compare=False)

    @classmethod
    def of_blocks(cls, count: int) -> Gated:
        starts = [index * POOL_STEPS for index in range(count)]
        return cls(
            begun={start: threading.Event() for start in starts},
            allowed={start: threading.Event() for start in starts},
        )

    def batches(self, split: Split, seed: int, steps: range, batch_size: int) -> Sequence[Batch]:
        self.begun[steps.start].set()
        assert self.allowed[steps.start].wait(PATIENCE_S)
        return super().batches(split, seed, steps, batch_size)


def feed_of(task: BitXor, num_steps: int = 1000) -> Feed:
    return Feed(task, 3, 4, num_steps, CPU)


def as_bytes(batch: Batch) -> tuple[bytes, ...]:
    tensors = (batch.tokens, batch.targets, batch.mask, batch.rows)
    return tuple(b"" if tensor is None else tensor.numpy().tobytes() for tensor in tensors)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("feed")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert threads() == []


@pytest.mark.parametrize("intervals", [(100,), (25, 25, 25, 25), (1, 31, 32, 36), (70, 30)])
def test_batches_equal_those_made_one_by_one(
    intervals: tuple[int, ...], ragged: type[BitXor]
) -> None:
    for task in (BitXor(), ragged()):
        feed, found = feed_of(task), []
        for num_steps in intervals:
            found += [as_bytes(batch) for batch in feed.run(len(found), num_steps)]
        assert found == [as_bytes(task.batch("train", 3, step, 4)) for step in range(100)]


def test_a_jump_to_another_step_gives_that_step() -> None:
    task = BitXor()
    feed = feed_of(task)
    for first_step in (40, 3, 90, 64):
        found = [as_bytes(batch) for batch in feed.run(first_step, 5)]
        steps = range(first_step, first_step + 5)
        assert found == [as_bytes(task.batch("train", 3, step, 4)) for step in steps]


def test_every_block_is_made_once_however_training_is_cut() -> None:
    task = Recorded()
    feed = feed_of(task, num_steps=75)
    for first_step in range(0, 75, 25):
        assert len(list(feed.run(first_step, 25))) == 25
    assert task.calls == [range(0, 32), range(32, 64), range(64, 75)]


def test_nothing_is_made_where_no_step_is_asked_for() -> None:
    task = Recorded()
    assert list(feed_of(task).run(10, 0)) == []
    assert task.calls == []


def test_the_next_block_is_made_while_a_batch_is_in_use() -> None:
    task = Gated.of_blocks(3)
    task.allowed[0].set()
    batches = feed_of(task, num_steps=96).run(0, 96)
    next(batches)
    assert task.begun[32].wait(PATIENCE_S)
    assert not task.begun[64].is_set()
    for start in (32, 64):
        task.allowed[start].set()
    assert len(list(batches)) == 95


def test_training_goes_on_while_the_next_block_is_slow() -> None:
    task = Gated.of_blocks(2)
    task.allowed[0].set()
    batches = feed_of(task, num_steps=64).run(0, 64)
    for _ in range(32):
        next(batches)
    assert task.calls == [range(0, 32)]
    task.allowed[32].set()
    assert len(list(batches)) == 32


def test_at_most_two_blocks_are_held() -> None:
    feed = feed_of(BitXor())
    for _ in feed.run(0, 200):
        assert len(feed._blocks) == 2


def test_an_error_of_the_task_reaches_the_caller_at_its_block() -> None:
    batches = feed_of(Damaged()).run(0, 64)
    assert len(list(islice(batches, 32))) == 32
    with pytest.raises(DataError) as caught:
        next(batches)
    assert caught.value.problem.where == "train.parquet"


def test_an_error_ahead_of_an_interval_leaves_it_alone_and_is_not_kept() -> None:
    task = Damaged()
    feed = feed_of(task)
    assert len(list(feed.run(0, 32))) == 32
    task.faults.clear()
    assert len(list(feed.run(32, 8))) == 8


def test_closing_ends_the_thread() -> None:
    batches = feed_of(BitXor()).run(0, 100)
    next(batches)
    assert len(threads()) == 1
    batches.close()
    assert threads() == []


def test_an_abandoned_iterator_ends_its_thread() -> None:
    batches = feed_of(BitXor()).run(0, 100)
    next(batches)
    del batches
    assert threads() == []


def test_an_unfinished_iterator_does_not_keep_the_interpreter() -> None:
    program = (
        "import torch; from fpt_ray.tasks import BitXor; from fpt_ray.training.feed import Feed\n"
        "batches = Feed(BitXor(), 0, 4, 1000, torch.device('cpu')).run(0, 1000)\n"
        "next(batches); print('made')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "made\n", "")


@pytest.mark.parametrize(
    ("batch_size", "seq_length", "input_size", "steps"),
    [(16, 64, 16, 32), (16, 120, 50, 16), (256, 64, 48, 2), (1000, 1024, 3, 1)],
)
def test_a_block_is_a_part_of_a_pool_that_fits(
    batch_size: int, seq_length: int, input_size: int, steps: int
) -> None:
    spec = TaskSpec(
        seq_length=seq_length,
        input_kind="features",
        input_size=input_size,
        num_read=1,
        decisions_per_token=1,
        num_classes=2,
    )
    assert block_steps(spec, batch_size) == steps
    assert POOL_STEPS % steps == 0
    assert steps == 1 or steps * batch_size * seq_length * input_size * 4 <= BLOCK_BYTES


def test_blocks_of_large_batches_are_smaller() -> None:
    task = BitMemory()
    assert block_steps(task.spec, 16) == 16
    feed = Feed(task, 3, 16, 40, CPU)
    found = [as_bytes(batch) for batch in feed.run(0, 40)]
    assert found == [as_bytes(task.batch("train", 3, step, 16)) for step in range(40)]


@pytest.mark.gpu
def test_batches_reach_the_gpu(ragged: type[BitXor]) -> None:
    device = torch.device("cuda")
    for task in (BitXor(), ragged()):
        found = list(Feed(task, 3, 4, 100, device).run(0, 40))
        assert {batch.tokens.device.type for batch in found} == {"cuda"}
        on_cpu = [as_bytes(to_device(batch, CPU)) for batch in found]
        assert on_cpu == [as_bytes(task.batch("train", 3, step, 4)) for step in range(40)]
