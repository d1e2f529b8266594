"""Checkpoints of trials in packs and of trials alone are the same."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from fpt_ray.config import TrialSettings
from fpt_ray.errors import CheckpointError
from fpt_ray.training import PackedTrial, Trainer, build_trainer, prepare_trial
from fpt_ray.training.blobs import unpack
from tests.unit.training.pack.trials import Packs, assert_close, figures, prepare_all

MakeSettings = Callable[..., TrialSettings]
Jobs = list[tuple[TrialSettings, int]]


@pytest.fixture
def jobs(settings_of: MakeSettings) -> Jobs:
    """Trials of one pack, which train different parameters."""
    sets = (["input", "output", "layer_norm", "positions"], ["output", "input"], ["input"])
    return [
        (settings_of(model__trained=trained, training__learning_rate=0.01), seed)
        for seed, trained in enumerate(sets)
    ]


def layout(data: bytes) -> dict[str, object]:
    """What a file holds and where, apart from numbers: its header without the document's values."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    (text,) = header.pop("__metadata__").values()
    return header | {"document": sorted(json.loads(text))}


def test_files_have_the_same_tensors_at_the_same_places(jobs: Jobs) -> None:
    trials, alone = prepare_all(jobs), [build_trainer(*job) for job in jobs]
    for num_steps in (0, 2):
        Packs().advance(trials, num_steps)
        for trial, trainer in zip(trials, alone, strict=True):
            trainer.advance(num_steps)
            for found, expected in (
                (trial.state(), trainer.state()),
                (trial.best(), trainer.best()),
            ):
                assert layout(found) == layout(expected)


def test_a_pack_goes_on_alone_and_the_reverse(jobs: Jobs) -> None:
    reference = [build_trainer(*job) for job in jobs]
    for trainer in reference:
        for _ in range(3):
            trainer.advance(4)
    trials, packs = prepare_all(jobs), Packs()
    packs.advance(trials, 4)
    alone = [build_trainer(*job) for job in jobs]
    for trial, trainer in zip(trials, alone, strict=True):
        pass_on(trial, trainer)
        trainer.advance(4)
    fresh, packs = prepare_all(jobs), Packs()
    for trial, trainer in zip(fresh, alone, strict=True):
        pass_on(trainer, trial)
    found = packs.advance(fresh, 4)
    for trial, evaluation, expected in zip(fresh, found, reference, strict=True):
        assert figures(evaluation) == pytest.approx(figures(expected.last_evaluation), rel=1e-5)
        assert_close(trial, expected)
        assert trial.improved is expected.improved
        assert trial.num_trained_parameters == expected.num_trained_parameters
        (result,) = packs.of(trial).test([trial])
        assert result.loss == pytest.approx(expected.test().loss, rel=1e-5)


def pass_on(source: PackedTrial | Trainer, target: PackedTrial | Trainer) -> None:
    """Go on with another trial's checkpoints."""
    target.load_state(source.state())
    target.load_best(source.best())
    assert target.last_evaluation == source.last_evaluation
    assert target.state() == source.state()


def test_a_state_is_loaded_into_a_trial_amid_its_pack(jobs: Jobs) -> None:
    trials, packs = prepare_all(jobs), Packs()
    packs.advance(trials, 2)
    saved = trials[1].state()
    first = packs.advance(trials, 3)
    trials[1].load_state(saved)
    assert [trial.step for trial in trials] == [5, 2, 5]
    again = packs.advance(trials, 3)
    assert figures(again[1]) == pytest.approx(figures(first[1]), rel=1e-5)


def test_between_evaluations_a_state_holds_no_best_parameters(jobs: Jobs) -> None:
    trial, packs = prepare_trial(*jobs[0]), Packs()
    packs.advance([trial], 2)
    assert trial.improved
    best = trial.best()
    packs.of(trial).train([trial], 1)
    resumed = prepare_trial(*jobs[0])
    resumed.load_state(trial.state())
    assert (resumed.step, resumed.improved) == (3, False)
    with pytest.raises(ValueError, match="there are no best parameters"):
        resumed.best()
    resumed.load_best(best)
    assert resumed.best() == best


def test_a_state_before_training_has_no_moments(jobs: Jobs) -> None:
    trial = prepare_trial(*jobs[0])
    saved = trial.state()
    assert all(name.startswith("parameter/") for name in unpack(saved, "state").tensors)
    Packs().advance([trial], 2)
    trial.load_state(saved)
    assert (trial.step, trial.last_evaluation) == (0, None)
    other = prepare_trial(*jobs[0])
    assert trial.state() == other.state()
    assert figures(*Packs().advance([trial], 3)) == figures(*Packs().advance([other], 3))


def test_checkpoints_of_other_trials_are_refused(jobs: Jobs, settings_of: MakeSettings) -> None:
    trial = prepare_trial(*jobs[0])
    Packs().advance([trial], 1)
    other = prepare_trial(settings_of(model__trained=["output"]), 0)
    with pytest.raises(CheckpointError, match="the checkpoint was trained on other frozen weights"):
        other.load_state(trial.state())
    with pytest.raises(CheckpointError, match="this is a state checkpoint, not a best checkpoint"):
        trial.load_best(trial.state())


@pytest.mark.parametrize("name", ["backbone.h.0.attn.c_attn.weight", "output_layer.0.bias"])
def test_a_changed_frozen_parameter_is_noticed(settings_of: MakeSettings, name: str) -> None:
    trials = prepare_all([(settings_of(model__trained=["input"]), seed) for seed in range(2)])
    packs = Packs()
    packs.advance(trials, 1)
    for trial in trials:
        trial.verify_frozen()
    if name.startswith("backbone"):
        parameter = trials[0].parts.weights.model.get_parameter(name)
        parameter.data = parameter.data + 1e-6
    else:
        trials[0].numbers.value(name).add_(1e-6)
    packs.advance(trials, 1)
    with pytest.raises(CheckpointError, match="frozen parameters changed while"):
        trials[0].verify_frozen()


def test_times_are_shares_of_the_pack(jobs: Jobs) -> None:
    trials, packs = prepare_all(jobs), Packs()
    first = packs.advance(trials, 3)
    second = packs.advance(trials, 3)
    assert len({evaluation.train_s for evaluation in first}) == 1
    for before, after in zip(first, second, strict=True):
        assert 0 < before.train_s < before.wall_s < after.wall_s
        assert before.train_s < after.train_s
