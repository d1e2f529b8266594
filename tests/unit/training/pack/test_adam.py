"""Adam on many rows is torch's Adam on each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fpt_ray.config import TrialSettings
from fpt_ray.training.pack import gradients as gradients_module
from fpt_ray.training.pack.adam import FlatAdam, PackAdam, RowAdam
from fpt_ray.training.pack.numbers import Layout
from fpt_ray.training.pack.rows import Rows
from fpt_ray.training.pack.trial import PackedTrial
from fpt_ray.training.steps import Recipe
from tests.unit.training.pack.trials import prepare_all

MakeSettings = Callable[..., TrialSettings]

RECIPES = [
    Recipe(learning_rate=1e-3),
    Recipe(learning_rate=3e-2, grad_clip_norm=None),
    Recipe(learning_rate=1e-2, grad_clip_norm=0.1),
]
NUM_STEPS = 5


@pytest.fixture
def trials(settings_of: MakeSettings) -> list[PackedTrial]:
    """Three trials whose counts of updates differ."""
    trials = prepare_all([(settings_of(training__optimizer={}), seed) for seed in range(3)])
    for trial, recipe, count in zip(trials, RECIPES, (0, 7, 1000), strict=True):
        trial.work = replace(trial.work, recipe=recipe)
        trial.updates = count
        generator = torch.Generator().manual_seed(trial.seed)
        if count:
            for name in trial.values():
                for moment in trial.numbers.moments(name).values():
                    moment.copy_(torch.rand(moment.shape, generator=generator) * 1e-3)
    return trials


def give(rows: Rows, step: int) -> tuple[list[dict[str, Tensor]], Tensor]:
    """Put random gradients of very different sizes into the rows."""
    generator = torch.Generator().manual_seed(step)
    found = tuple(
        torch.randn(leaf.shape, generator=generator) * 10.0 ** (index % 5 - 3)
        for index, leaf in enumerate(rows._moving)
    )
    kept = [
        {name: g[row].clone() for name, g in zip(rows.layout.moving, found, strict=True)}
        for row in range(rows.num_trials)
    ]
    return kept, rows.gradients.take(found)


@pytest.mark.parametrize(("kind", "loose"), [(RowAdam, False), (RowAdam, True), (FlatAdam, False)])
def test_updates_are_torchs(
    trials: list[PackedTrial],
    monkeypatch: pytest.MonkeyPatch,
    kind: type[PackAdam],
    loose: bool,
) -> None:
    monkeypatch.setattr(gradients_module, "LOOSE_FROM", 0 if loose else 1 << 30)
    plain = [reference(trial) for trial in trials]
    rows = Rows(trials, trials[0].parts.own, {})
    adam = kind(rows, trials, NUM_STEPS)
    for step in range(NUM_STEPS):
        gradients, norms = give(rows, step)
        for (parameters, optimizer), given, recipe in zip(plain, gradients, RECIPES, strict=True):
            for name, parameter in parameters.items():
                parameter.grad = given[name]
            if recipe.grad_clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters.values(), recipe.grad_clip_norm)
            optimizer.step()
        adam.update(norms, ())
    assert adam.counts == [5, 12, 1005]
    for row, (parameters, _) in zip(rows.numbers, plain, strict=True):
        for name, parameter in parameters.items():
            torch.testing.assert_close(row.value(name), parameter.detach(), rtol=1e-5, atol=1e-7)


def reference(trial: PackedTrial) -> tuple[dict[str, Tensor], torch.optim.Adam]:
    """Make torch's own optimizer of a trial's parameters, with its moments."""
    parameters = {n: v.clone().requires_grad_() for n, v in trial.values().items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=trial.work.recipe.learning_rate)
    if trial.updates:
        for name, parameter in parameters.items():
            moments = {m: v.clone() for m, v in trial.numbers.moments(name).items()}
            optimizer.state[parameter] = {"step": torch.tensor(float(trial.updates)), **moments}
    return parameters, optimizer


def test_skipped_rows_stay_as_they_are(trials: list[PackedTrial]) -> None:
    rows = Rows(trials, trials[0].parts.own, {})
    before = [row.values.clone() for row in rows.numbers]
    adam = RowAdam(rows, trials, 1)
    _, norms = give(rows, 0)
    adam.update(norms, {1})
    same = [torch.equal(row.values, old) for row, old in zip(rows.numbers, before, strict=True)]
    assert same == [False, True, False]
    assert adam.counts == [1, 7, 1001]


@pytest.mark.parametrize("kind", [RowAdam, FlatAdam])
def test_what_a_trial_does_not_train_stays_to_the_bit(
    settings_of: MakeSettings, kind: type[PackAdam]
) -> None:
    sets = (["input", "output", "layer_norm", "positions"], ["input"])
    trials = prepare_all([(settings_of(model__trained=trained), 0) for trained in sets])
    rows = Rows(trials, trials[0].parts.own, trials[0].parts.weights.tensors)
    before = {name: rows.numbers[1].value(name).clone() for name in rows.layout.shapes}
    adam = kind(rows, trials, 3)
    for step in range(3):
        adam.update(give(rows, step)[1], ())
    for name, value in before.items():
        stays = name not in trials[1].parts.trained
        assert torch.equal(rows.numbers[1].value(name), value) is stays


@pytest.mark.parametrize("loose", [False, True])
def test_gradients_that_are_not_trained_count_in_no_norm_even_if_they_are_nan(
    settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch, loose: bool
) -> None:
    monkeypatch.setattr(gradients_module, "LOOSE_FROM", 0 if loose else 1 << 30)
    sets = (["input", "output", "layer_norm", "positions"], ["input"])
    trials = prepare_all([(settings_of(model__trained=trained), 0) for trained in sets])
    rows = Rows(trials, trials[0].parts.own, trials[0].parts.weights.tensors)
    found = [torch.ones_like(leaf) for leaf in rows._moving]
    for name, gradient in zip(rows.layout.moving, found, strict=True):
        if name not in trials[1].parts.trained:
            gradient[1] = float("nan")
    norms = rows.gradients.take(tuple(found))
    counts = torch.tensor([float(trial.num_trained_parameters) for trial in trials])
    torch.testing.assert_close(norms, counts.sqrt())


def test_norms_of_long_rows_are_exact() -> None:
    layout = Layout({"weight": torch.Size([3_000_000])}, ["weight"])
    gradients = gradients_module.FlatGradients(layout, [{"weight"}], torch.device("cpu"))
    values = torch.randn(1, 3_000_000, generator=torch.Generator().manual_seed(0)) * 1e-3
    norms = gradients.take((values,))
    assert norms.item() == pytest.approx(values.double().norm().item(), rel=1e-6)


def test_nothing_is_allocated_while_all_rows_are_updated(trials: list[PackedTrial]) -> None:
    rows = Rows(trials, trials[0].parts.own, {})
    adam = FlatAdam(rows, trials, 2)
    norms = give(rows, 0)[1]
    adam.update(norms, ())
    norms = give(rows, 1)[1]
    with torch.profiler.profile(profile_memory=True) as profile:
        adam.update(norms, ())
    # Numbers that stand in an operation are wrapped on the host.
    assert max(event.self_cpu_memory_usage for event in profile.events()) <= 8
