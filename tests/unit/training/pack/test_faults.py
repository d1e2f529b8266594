"""What goes wrong with one trial, or with one step, leaves all others as they would be."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from fpt_ray.config import TrialSettings
from fpt_ray.errors import DataError
from fpt_ray.tasks import Batch, BitXor, Split, TaskSources
from fpt_ray.training import Pack, TrialFault, build_trainer, prepare_trial
from fpt_ray.training.blobs import unpack
from fpt_ray.training.pack.compute import Computation
from tests.unit.training.pack.trials import (
    Packs,
    assert_close,
    assert_values_close,
    figures,
    prepare_all,
)

MakeSettings = Callable[..., TrialSettings]
Jobs = list[tuple[TrialSettings, int]]


@pytest.fixture
def jobs(settings_of: MakeSettings) -> Jobs:
    return [(settings_of(training__learning_rate=1e-3 * (seed + 1)), seed) for seed in range(3)]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_divergence_is_found_at_its_step_with_its_reason(
    settings_of: MakeSettings, jobs: Jobs, place: int
) -> None:
    wild = (settings_of(training__learning_rate=1e6), 7)
    trials = prepare_all([*jobs[:place], wild, *jobs[place:]])
    packs = Packs()
    alone = build_trainer(*wild)
    expected = alone.advance(6)
    assert expected.diverged
    pack = packs.of(trials[0])
    assert pack.train(trials, 6) == expected.step == 2
    gone = trials[place]
    assert gone.finished
    with pytest.raises(ValueError, match="training diverged at step 2: it cannot go on"):
        pack.train(trials, 1)
    found = pack.evaluate(trials)[place]
    assert (found.step, found.reason) == (expected.step, expected.reason)
    assert (found.diverged, found.validation_loss, found.train_loss) == (True, None, None)
    assert_values_close(gone.values(), alone.values())
    assert gone.updates == 1
    resumed = build_trainer(*wild)
    resumed.load_state(gone.state())
    assert resumed.last_evaluation == found
    others = [trial for trial in trials if trial is not gone]
    pack.train(others, 4)
    for trial, job in zip(others, jobs, strict=True):
        trainer = build_trainer(*job)
        trainer.advance(6)
        assert_close(trial, trainer)
    with pytest.raises(ValueError, match="training diverged at step 2: it cannot go on"):
        pack.train(trials, 1)


def test_a_trial_of_nans_touches_no_other(jobs: Jobs) -> None:
    trials, twins = prepare_all(jobs), prepare_all(jobs)
    packs, others = Packs(), Packs()
    packs.advance(trials, 2)
    others.advance(twins, 2)
    for value in trials[1].values().values():
        value.fill_(math.nan)
    evaluations = packs.advance(trials, 1)
    others.advance(twins, 1)
    assert evaluations[1].reason == "the training loss became nan"
    for index in (0, 2):
        for name, value in trials[index].values().items():
            assert torch.equal(value, twins[index].values()[name])


def test_a_validation_that_is_not_finite_is_a_divergence(jobs: Jobs) -> None:
    trials, packs = prepare_all(jobs), Packs()
    packs.advance(trials, 1)
    trials[0].values()["output_layer.0.bias"].fill_(math.nan)
    found = packs.of(trials[0]).evaluate(trials)
    assert [evaluation.diverged for evaluation in found] == [True, False, False]
    assert found[0].reason == "the validation loss became nan"


class Scarce:
    """Lets a step fail for want of memory, in its forward or backward pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int, backward: bool) -> None:
        self.left = step
        self.backward = backward
        self.whole = Computation.logits
        monkeypatch.setattr(Computation, "logits", lambda *args: self.logits(*args))

    def logits(self, *args: Any) -> Tensor:
        logits = self.whole(*args)
        self.left -= 1
        if self.left == 0 and not self.backward:
            self.fail()
        if self.left == 0:
            logits.register_hook(self.fail)
        return logits

    def fail(self, *_: Any) -> None:
        raise torch.OutOfMemoryError("injected")


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("step", [1, 4])
def test_out_of_memory_leaves_all_at_the_last_whole_step(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, backward: bool, step: int
) -> None:
    trials, twins = prepare_all(jobs), prepare_all(jobs)
    whole = Packs().advance(twins, 8)
    pack = Pack(trials[0])
    with monkeypatch.context() as patched:
        Scarce(patched, step, backward)
        with pytest.raises(torch.OutOfMemoryError, match="injected"):
            pack.train(trials, 8)
    assert [trial.step for trial in trials] == [step - 1] * 3
    assert [trial.updates for trial in trials] == [step - 1] * 3
    half = trials[:2]
    pack.train(half, 9 - step)
    pack.train(trials[2:], 9 - step)
    found = [*pack.evaluate(half), *pack.evaluate(trials[2:])]
    for one, expected in zip(found, whole, strict=True):
        assert figures(one) == pytest.approx(figures(expected), rel=1e-5)
    for trial, twin in zip(trials, twins, strict=True):
        assert_close(trial, twin)


def test_out_of_memory_while_trials_are_stacked_changes_nothing(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = prepare_all(jobs)
    pack = Pack(trials[0])
    pack.train(trials[:2], 2)
    before = [trial.state() for trial in trials]
    with monkeypatch.context() as patched:
        patched.setattr("fpt_ray.training.pack.rows.make_gradients", _scarce)
        with pytest.raises(torch.OutOfMemoryError):
            pack.train(trials, 2)
    assert [trial.state() for trial in trials] == before
    assert pack.train(trials, 2) == 2
    assert [trial.step for trial in trials] == [4, 4, 2]


def _scarce(*_: Any) -> None:
    raise torch.OutOfMemoryError("injected")


def test_an_error_leaves_no_thread_behind(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = prepare_all(jobs)
    pack = Pack(trials[0])
    before = threading.active_count()
    Scarce(monkeypatch, 2, backward=True)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        pack.train(trials, 8)
    assert (threading.active_count(), caught.type) == (before, torch.OutOfMemoryError)


@dataclass(frozen=True)
class Damaged(BitXor):
    """Bit XOR whose data of one seed are damaged from a step on, until they are mended."""

    seed: int = 1
    first: int = 32
    faults: list[str] = field(default_factory=lambda: ["cut"], compare=False)

    def batches(self, split: Split, seed: int, steps: range, batch_size: int) -> Sequence[Batch]:
        if split == "train" and seed == self.seed and steps.stop > self.first and self.faults:
            raise DataError("the file is damaged", where="train.parquet", fix="copy it again")
        return super().batches(split, seed, steps, batch_size)


def test_a_trial_without_data_is_named_and_the_others_go_on(settings_of: MakeSettings) -> None:
    task = Damaged(sources=TaskSources(validation_size=16, test_size=16))
    jobs = [(settings_of(training__max_steps=80), seed) for seed in range(3)]
    trials = prepare_all(jobs, task=task)
    pack = Pack(trials[0])
    with pytest.raises(TrialFault, match=r"train\.parquet: the file is damaged") as caught:
        pack.train(trials, 80)
    assert caught.value.trial is trials[1]
    assert isinstance(caught.value.error, DataError)
    assert [trial.step for trial in trials] == [32, 32, 32]
    assert pack.train([trials[0], trials[2]], 2) == 2
    task.faults.clear()
    assert pack.train(trials, 3) == 3


def test_a_trial_without_its_first_batch_is_as_it_was(settings_of: MakeSettings) -> None:
    task = Damaged(first=0, sources=TaskSources(validation_size=16, test_size=16))
    trial = prepare_trial(settings_of(), 1, task=task)
    before = trial.state()
    for use in (Pack(trial).slopes, lambda trials: Pack(trial).train(trials, 2)):
        with pytest.raises(TrialFault) as caught:
            use([trial])
        assert caught.value.trial is trial
    assert unpack(trial.state(), "state").tensors.keys() == unpack(before, "state").tensors.keys()
    assert (trial.step, trial.updates) == (0, 0)
