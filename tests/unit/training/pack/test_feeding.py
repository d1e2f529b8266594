"""Batches of a pack: each trial's own, made once for all who read the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fpt_ray.config import TrialSettings
from fpt_ray.tasks import Batch, BitMemory, BitXor, Split
from fpt_ray.training import TrialFault
from fpt_ray.training.pack.feeding import PackBatch, PackFeed, stack

MakeSettings = Callable[..., TrialSettings]

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Recorded(BitXor):
    """Bit XOR that notes the seeds and steps it is asked for."""

    calls: list[tuple[int, range]] = field(default_factory=list, compare=False)

    def batches(self, split: Split, seed: int, steps: range, batch_size: int) -> Sequence[Batch]:
        assert split == "train"
        self.calls.append((seed, steps))
        return super().batches(split, seed, steps, batch_size)


def reader(task: Any, seed: int, step: int = 0, batch_size: int = 4, num_steps: int = 1000) -> Any:
    """As much of a trial as a feed asks for."""
    plan = SimpleNamespace(seed=seed, max_steps=num_steps)
    work = SimpleNamespace(task=task, plan=plan, recipe=SimpleNamespace(batch_size=batch_size))
    return SimpleNamespace(work=work, step=step)


def advance(trials: Sequence[Any], num_steps: int) -> None:
    for trial in trials:
        trial.step += num_steps


def check(batch: PackBatch, trials: Sequence[Any], index: int = 0) -> None:
    """Compare what a feed gives with what each trial's task gives, padding aside."""
    for number, trial in enumerate(trials):
        work, found = trial.work, batch.of(number)
        step = trial.step + index
        own = work.task.batch("train", work.plan.seed, step, work.recipe.batch_size)
        length = own.tokens.shape[1]
        mask = torch.ones(own.tokens.shape[:2], dtype=torch.bool) if own.mask is None else own.mask
        shown = found.tokens[:, :length]
        assert torch.equal(shown[mask], own.tokens[mask])
        assert torch.equal(found.targets, own.targets)
        assert (found.rows is None) == (own.rows is None)
        assert own.rows is None or torch.equal(found.rows, own.rows)
        if found.mask is None:
            assert mask.all()
            assert length == found.tokens.shape[1]
        else:
            assert torch.equal(found.mask[:, :length], mask)
            assert not found.mask[:, length:].any()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [t for t in threading.enumerate() if t.name.startswith("feed")] == []


@pytest.mark.parametrize("is_ragged", [False, True])
def test_every_trial_gets_its_own_batches_whoever_reads_beside_it(
    ragged: type[BitXor], is_ragged: bool
) -> None:
    task = ragged() if is_ragged else BitXor()

    @settings(max_examples=20, deadline=None)
    @given(
        st.lists(
            st.tuples(st.lists(st.integers(0, 3), min_size=1, unique=True), st.integers(1, 40)),
            min_size=1,
            max_size=4,
        )
    )
    def holds(schedule: list[tuple[list[int], int]]) -> None:
        trials = [reader(task, seed) for seed in (0, 1, 1, 2)]
        trials[2].step = 30
        feed = PackFeed(CPU)
        for members, num_steps in schedule:
            chosen = [trials[index] for index in members]
            count = 0
            for index, batch in enumerate(feed.run(chosen, num_steps)):
                check(batch, chosen, index)
                count += 1
            assert count == num_steps
            advance(chosen, num_steps)

    holds()


def test_trials_of_one_seed_have_their_batches_made_once() -> None:
    task = Recorded()
    trials = [reader(Recorded(calls=task.calls), seed, num_steps=75) for seed in (3, 3, 5, 3)]
    feed = PackFeed(CPU)
    for _ in range(3):
        assert len(list(feed.run(trials, 25))) == 25
        advance(trials, 25)
    blocks = [range(0, 32), range(32, 64), range(64, 75)]
    assert sorted(task.calls, key=repr) == sorted(
        ((seed, block) for seed in (3, 5) for block in blocks), key=repr
    )


def test_other_batch_sizes_and_tasks_have_batches_of_their_own() -> None:
    trials = [reader(BitXor(), 0), reader(BitXor(length=4), 0)]
    feed = PackFeed(CPU)
    for trial in trials:
        check(next(iter(list(feed.run([trial], 1)))), [trial])
    small = reader(BitXor(), 0, batch_size=2)
    check(next(iter(list(feed.run([small], 1)))), [small])


def test_a_task_without_equals_is_read_by_its_trial_alone_and_in_order() -> None:
    class Stream:
        """A task that can only go forward, as streamed rows do."""

        def __init__(self) -> None:
            self.spec = BitMemory().spec
            self.next = 0

        def batches(self, split: Split, seed: int, steps: range, size: int) -> Sequence[Batch]:
            assert steps.start == self.next
            self.next = steps.stop
            return BitMemory().batches(split, seed, steps, size)

        def batch(self, split: Split, seed: int, step: int, size: int) -> Batch:
            return BitMemory().batch(split, seed, step, size)

    trials = [reader(Stream(), 0, batch_size=16) for _ in range(2)]
    for index, batch in enumerate(PackFeed(CPU).run(trials, 40)):
        check(batch, trials, index)


def test_an_error_names_the_trial_and_is_not_kept() -> None:
    faults = ["cut"]

    @dataclass(frozen=True)
    class Damaged(BitXor):
        def batches(self, split: Split, seed: int, steps: range, size: int) -> Sequence[Batch]:
            if seed == 1 and faults:
                raise OSError("the disk is gone")
            return super().batches(split, seed, steps, size)

    trials = [reader(Damaged(), seed) for seed in (0, 1)]
    feed = PackFeed(CPU)
    with pytest.raises(TrialFault, match="the disk is gone") as caught:
        list(feed.run(trials, 1))
    assert caught.value.trial is trials[1]
    faults.clear()
    for batch in feed.run(trials, 1):
        check(batch, trials)


def test_what_nobody_reads_any_more_is_forgotten() -> None:
    trials = [reader(BitXor(), seed) for seed in range(3)]
    feed = PackFeed(CPU)
    list(feed.run(trials, 100))
    assert len(feed._sources) == 3
    assert all(len(source._blocks) <= 2 for source in feed._sources.values())
    list(feed.run(trials[:1], 1))
    assert len(feed._sources) == 1


def test_a_pack_of_one_gets_its_batches_without_a_copy() -> None:
    batch = BitXor().batch("train", 0, 0, 4)
    found = stack([batch])
    assert found.tokens.data_ptr() == batch.tokens.data_ptr()
    assert found.mask is None


def test_masks_appear_where_any_trial_has_padding() -> None:
    tokens, targets = torch.ones(2, 3, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.int64)
    short = Batch(tokens[:, :2], targets)
    found = stack([Batch(tokens, targets), short])
    assert found.tokens.tolist() == [[[1, 1, 1]] * 2, [[1, 1, 0]] * 2]
    assert found.mask.tolist() == [[[True] * 3] * 2, [[True, True, False]] * 2]


@pytest.mark.gpu
def test_batches_reach_the_gpu_from_pinned_memory(ragged: type[BitXor]) -> None:
    device = torch.device("cuda")
    for task in (BitXor(), ragged()):
        trials = [reader(task, seed) for seed in range(3)]
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = [batch.whole for batch in PackFeed(device).run(trials, 40)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert {batch.tokens.device.type for batch in found} == {"cuda"}
        masks = [None if b.mask is None else b.mask.cpu() for b in found]
        on_cpu = [
            PackBatch(Batch(b.tokens.cpu(), b.targets.cpu(), mask, b.rows))
            for b, mask in zip(found, masks, strict=True)
        ]
        for index, batch in enumerate(on_cpu):
            check(batch, trials, index)
