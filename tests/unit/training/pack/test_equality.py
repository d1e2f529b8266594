"""A trial computes in a pack what it computes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fpt_ray.config import TrialSettings
from fpt_ray.tasks import BitXor, TaskSources
from fpt_ray.training import PackedTrial, build_trainer, prepare_trial
from tests.unit.training.pack.trials import (
    FAMILIES,
    NO_TABLE,
    Packs,
    assert_close,
    figures,
    prepare_all,
)

MakeSettings = Callable[..., TrialSettings]
Jobs = list[tuple[TrialSettings, int]]

MIXED: list[dict[str, Any]] = [
    {"training__learning_rate": 1e-3},
    {"training__learning_rate": 1e-2, "training__grad_clip_norm": None},
    {"training__learning_rate": 3e-3, "training__grad_clip_norm": 0.05},
    {"model__trained": ["input", "output"], "training__learning_rate": 2e-2},
    {"model__trained": ["input", "layer_norm[1:]"], "model__orthogonal_gain": 1.0},
]
LISTOPS = {"name": "listops", "max_length": 20, "train_size": 40}


def mixed(settings_of: MakeSettings, family: str = "gpt2", **values: Any) -> Jobs:
    """Trials of different rates, clipping norms, trained sets and seeds."""
    first = ["input", "output", "layer_norm", *(() if family in NO_TABLE else ("positions",))]
    every = ({"model__trained": first} | values | changes for changes in MIXED)
    return [(settings_of(family, **each), seed) for seed, each in enumerate(every)]


def check(jobs: Jobs, num_steps: int = 20, **options: Any) -> list[PackedTrial]:
    """Train jobs packed and alone, and compare them after every few steps."""
    trials = prepare_all(jobs, **options)
    alone = [build_trainer(settings, seed, **options) for settings, seed in jobs]
    packs = Packs()
    while trials[0].step < num_steps:
        evaluations = packs.advance(trials, 5)
        expected = [trainer.advance(5) for trainer in alone]
        for found, one in zip(evaluations, expected, strict=True):
            assert figures(found) == pytest.approx(figures(one), rel=1e-5)
    for trial, trainer in zip(trials, alone, strict=True):
        assert_close(trial, trainer)
        trial.verify_frozen()
    return trials


@pytest.mark.parametrize("family", FAMILIES)
def test_mixed_trials_of_several_seeds_are_as_alone(settings_of: MakeSettings, family: str) -> None:
    trials = check(mixed(settings_of, family))
    assert len({trial.key for trial in trials}) == 1


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5"])
def test_sequences_of_different_lengths_are_as_alone(
    settings_of: MakeSettings, family: str
) -> None:
    jobs = mixed(settings_of, family, task=LISTOPS, training__validation_size=16)
    assert len({trial.key for trial in check(jobs)}) == 1


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_ids_of_ragged_batches_are_as_alone(
    settings_of: MakeSettings, ragged: type[BitXor], family: str
) -> None:
    task = ragged(sources=TaskSources(validation_size=16, test_size=16))
    check(mixed(settings_of, family), task=task)


@pytest.mark.parametrize("trained", [["all"], ["output", "attention", "feed_forward[0]"]])
@pytest.mark.parametrize("family", ["gpt2", "bert", "t5"])
def test_trials_that_train_large_groups_are_as_alone(
    settings_of: MakeSettings, family: str, trained: list[str]
) -> None:
    rates = (1e-3, 3e-4, 2e-3)
    settings = (
        settings_of(family, model__trained=trained, training__learning_rate=r) for r in rates
    )
    trials = check([(each, seed) for seed, each in enumerate(settings)])
    assert len({trial.key for trial in trials}) == 1


@pytest.mark.parametrize(
    "model",
    [
        {"name": "lstm", "hidden_size": 8, "num_layers": 2, "positions": True},
        {"name": "no_backbone", "hidden_size": 8, "output_mlp": [5]},
    ],
)
def test_baselines_of_several_seeds_share_a_pack(
    settings_of: MakeSettings, model: dict[str, Any]
) -> None:
    settings = settings_of().with_values({"model": model})
    assert len({trial.key for trial in check([(settings, 0), (settings, 1), (settings, 2)])}) == 1


def test_shuffled_tokens_keep_the_order_of_their_own_seed(settings_of: MakeSettings) -> None:
    settings = settings_of("bert", model__token_order="shuffled")
    trials = check([(settings, 0), (settings, 1), (settings, 2)])
    assert len({trial.key for trial in trials}) == 1


def test_random_backbones_of_other_seeds_need_packs_of_their_own(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings(training__dropout=0.0, training__optimizer={"epsilon": 1e-4})
    fast = settings.with_values({"training.learning_rate": 0.01})
    trials = check([(settings, 0), (fast, 0), (settings, 1)], num_steps=6)
    assert trials[0].key == trials[1].key != trials[2].key


@pytest.mark.parametrize(
    "trained", [["all"], ["output"], ["output", "layer_norm[1]"]], ids=" and ".join
)
@pytest.mark.parametrize("backbone", ["tiny-gpt2", "tiny-bert"])
def test_a_pack_of_one_drops_what_a_trainer_drops(
    make_settings: MakeSettings, backbone: str, trained: list[str]
) -> None:
    settings = make_settings(
        model__backbone=backbone, model__trained=trained, training__dropout=0.3
    )
    trainer, trial = build_trainer(settings, 3), prepare_trial(settings, 3)
    packs = Packs()
    for _ in range(3):
        (found,) = packs.advance([trial], 2)
        assert figures(found) == pytest.approx(figures(trainer.advance(2)), rel=1e-6)


def test_dropout_in_company_follows_from_the_members_and_their_steps(
    settings_of: MakeSettings,
) -> None:
    jobs = [(settings_of(training__dropout=0.3), seed) for seed in range(3)]
    found = []
    for intervals in ((4,), (1, 3)):
        trials, packs = prepare_all(jobs), Packs()
        for num_steps in intervals:
            torch.manual_seed(num_steps)
            packs.of(trials[0]).train(trials, num_steps)
        found.append([value.clone() for trial in trials for value in trial.values().values()])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_slopes_are_those_of_the_next_step_and_change_nothing(settings_of: MakeSettings) -> None:
    jobs = mixed(settings_of)
    trials, alone = prepare_all(jobs), [build_trainer(*job) for job in jobs]
    packs = Packs()
    packs.advance(trials, 3)
    before = [trial.state() for trial in trials]
    slopes = packs.of(trials[0]).slopes(trials)
    assert [trial.state() for trial in trials] == before
    for trainer, found in zip(alone, slopes, strict=True):
        trainer.advance(3)
        expected = trainer.slope()
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        assert found.gradients.keys() == expected.gradients.keys()
        largest = max(value.abs().max().item() for value in expected.gradients.values())
        for name, value in expected.gradients.items():
            torch.testing.assert_close(found.gradients[name], value, rtol=1e-5, atol=1e-5 * largest)


def test_the_best_parameters_of_each_trial_are_tested(settings_of: MakeSettings) -> None:
    jobs = mixed(settings_of, training__learning_rate=0.05)
    trials, alone = prepare_all(jobs), [build_trainer(*job) for job in jobs]
    packs = Packs()
    for _ in range(4):
        packs.advance(trials, 2)
        assert [t.improved for t in trials] == [a.advance(2).step and a.improved for a in alone]
    before = [trial.state() for trial in trials]
    results = packs.of(trials[0]).test(trials)
    assert [trial.state() for trial in trials] == before
    for found, trainer in zip(results, alone, strict=True):
        expected = trainer.test()
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        assert (found.accuracy, found.num_decisions) == (expected.accuracy, expected.num_decisions)


def test_bf16_trains_in_a_pack(settings_of: MakeSettings) -> None:
    jobs = [(settings_of(training__precision="bf16"), seed) for seed in range(3)]
    trials = prepare_all(jobs)
    evaluations = Packs().advance(trials, 4)
    for (settings, seed), found in zip(jobs, evaluations, strict=True):
        expected = build_trainer(settings, seed).advance(4)
        assert found.validation_loss == pytest.approx(expected.validation_loss, rel=0.02)


def test_the_size_of_the_pack_is_recorded(settings_of: MakeSettings) -> None:
    trials = prepare_all([(settings_of(), seed) for seed in range(3)])
    pack = Packs().of(trials[0])
    pack.train(trials, 1)
    pack.train(trials[:2], 1)
    assert [e.pack for e in pack.evaluate(trials)] == [3, 3, 3]
    pack.train(trials[:2], 1)
    assert [e.pack for e in pack.evaluate(trials[:2])] == [2, 2]


def test_the_mean_loss_is_over_all_steps_since_the_last_evaluation(
    settings_of: MakeSettings,
) -> None:
    trial, trainer = prepare_trial(settings_of(), 0), build_trainer(settings_of(), 0)
    pack = Packs().of(trial)
    for num_steps in (1, 2, 2):
        pack.train([trial], num_steps)
    (found,) = pack.evaluate([trial])
    assert found.train_loss == pytest.approx(trainer.advance(5).train_loss, rel=1e-6)
    assert pack.evaluate([trial])[0].train_loss is None
