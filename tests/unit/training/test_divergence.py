"""Divergence is a result with its step."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from fpt_ray.config import TrialSettings
from fpt_ray.training import build_trainer, train
from fpt_ray.training.divergence import Watch

MakeSettings = Callable[..., TrialSettings]


def test_an_enormous_rate_diverges_with_its_step(make_settings: MakeSettings) -> None:
    trainer = build_trainer(make_settings(training__learning_rate=1e6), seed=0)
    (evaluation,) = list(train(trainer, eval_every=6))
    assert evaluation.diverged
    assert evaluation.step == trainer.step == 2
    assert "the training loss rose to" in evaluation.reason
    assert "above 10000" in evaluation.reason
    assert evaluation.validation_loss is evaluation.validation_accuracy is None
    assert trainer.finished


def test_a_parameter_that_becomes_nan_is_noticed(make_settings: MakeSettings) -> None:
    trainer = build_trainer(make_settings(), seed=0)
    trainer.advance(3)
    with torch.no_grad():
        trainer._model.output_layer[0].bias[0] = math.nan
    evaluation = trainer.advance(3)
    assert evaluation.step == 4
    assert evaluation.reason == "the training loss became nan"
    assert not trainer.improved
    with pytest.raises(ValueError, match="training diverged at step 4: it cannot go on"):
        trainer.advance(1)


def test_divergence_survives_a_resume(make_settings: MakeSettings) -> None:
    trainer = build_trainer(make_settings(training__learning_rate=1e6), seed=0)
    evaluation = trainer.advance(6)
    resumed = build_trainer(make_settings(training__learning_rate=1e6), seed=0)
    resumed.load_state(trainer.state())
    assert resumed.last_evaluation == evaluation
    assert resumed.finished


def test_a_loss_that_is_not_finite_in_validation_is_noticed(make_settings: MakeSettings) -> None:
    trainer = build_trainer(make_settings(training__max_steps=1), seed=0)
    trainer.advance(1)
    with torch.no_grad():
        trainer._model.output_layer[0].bias[0] = math.nan
    evaluation = trainer.advance(0)
    assert evaluation.diverged
    assert evaluation.reason == "the validation loss became nan"


@pytest.mark.parametrize(
    ("losses", "norms", "index", "reason"),
    [
        ([1, math.nan, 1], [1, 1, 1], 1, "the training loss became nan"),
        ([1, 1, 1], [1, 1, math.inf], 2, "the gradient norm became inf"),
        ([1, 2e4, math.nan], [1, 1, 1], 1, "the training loss rose to 2e+04, above 10000"),
    ],
)
@pytest.mark.parametrize("waits", [False, True])
def test_the_first_fault_is_reported_on_every_device(
    losses: list[float], norms: list[float], index: int, reason: str, waits: bool
) -> None:
    watch = Watch(len(losses), torch.device("cpu"), waits=waits)
    for loss, norm in zip(losses, norms, strict=True):
        if watch.record(torch.tensor(float(loss)), torch.tensor(float(norm))):
            break
    assert watch.finish() is None
    assert watch.divergence.index == index
    assert watch.divergence.reason == reason


@pytest.mark.parametrize("waits", [False, True])
def test_the_mean_loss_is_over_the_steps_that_were_made(waits: bool) -> None:
    watch = Watch(5, torch.device("cpu"), waits=waits)
    assert watch.finish() is None
    for loss in (1.0, 3.0):
        assert not watch.record(torch.tensor(loss), torch.tensor(1.0))
    assert watch.finish() == 2.0
