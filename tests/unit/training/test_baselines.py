"""Models without a backbone, and other ways of reading, trained on every kind of task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fpt_ray.config import TrialSettings
from fpt_ray.errors import ModelError
from fpt_ray.models import frozen_fingerprint
from fpt_ray.tasks import build_task
from fpt_ray.training import build_trainer, describe, fingerprints
from fpt_ray.training.build import build_model

MakeSettings = Callable[..., TrialSettings]
DATA_DIR = Path(__file__).parents[2] / "data"
TASKS: dict[str, dict[str, Any]] = {
    "bit_xor": {"name": "bit_xor"},
    "listops": {"name": "listops", "max_length": 20, "train_size": 40},
    "mnist": {"name": "mnist", "patch_size": 7},
}
SMALL = {"name": "lstm", "hidden_size": 8, "num_layers": 2}
FROZEN = {**SMALL, "trained": ["input", "output", "layer_norm"]}
MODELS: dict[str, dict[str, Any]] = {
    "lstm": SMALL,
    "lstm_star": {**SMALL, "residual": True, "positions": True},
    "frozen_lstm": FROZEN,
    "shuffled_lstm": {**FROZEN, "token_order": "shuffled"},
    "no_backbone": {"name": "no_backbone", "hidden_size": 8},
    "linear_gpt2": {"backbone": "tiny-gpt2", "init": "random", "input_layer": "linear"},
    "shuffled_gpt2": {"backbone": "tiny-gpt2", "init": "random", "token_order": "shuffled"},
    "first_of_bert": {"backbone": "tiny-bert", "init": "random", "read": "first"},
}


def trial(make_settings: MakeSettings, task: str, model: dict[str, Any]) -> TrialSettings:
    return make_settings(task=TASKS[task], model=model, data__dir=str(DATA_DIR))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", MODELS)
def test_each_model_learns_and_resumes_exactly(
    make_settings: MakeSettings, model: str, task: str
) -> None:
    settings = trial(make_settings, task, MODELS[model])
    whole, first, second = (build_trainer(settings, seed=3) for _ in range(3))
    whole.advance(2)
    expected = whole.advance(3)
    first.advance(2)
    second.load_state(first.state())
    found = second.advance(3)
    assert (found.train_loss, found.validation_loss) == (
        expected.train_loss,
        expected.validation_loss,
    )
    second.load_best(whole.best())
    assert second.test().loss == whole.test().loss
    second.verify_frozen()
    assert whole.num_trained_parameters == describe(settings).trained_parameters


def test_a_frozen_lstm_keeps_its_recurrent_weights_while_the_rest_learns(
    make_settings: MakeSettings,
) -> None:
    settings = trial(make_settings, "bit_xor", FROZEN)
    task, cpu = build_task(settings), torch.device("cpu")
    fresh, fingerprint = build_model(settings, 0, task, cpu)
    trainer = build_trainer(settings, 0)
    trainer.advance(6)
    trained = dict(trainer._model.named_parameters())
    for name, parameter in fresh.named_parameters():
        assert torch.equal(parameter, trained[name]) is ("recurrent" in name)
    assert frozen_fingerprint(trainer._model) == fingerprint


def test_an_lstm_learns_what_its_last_token_does_not_tell(make_settings: MakeSettings) -> None:
    task = {"name": "bit_xor", "length": 1}
    training = {"training__max_steps": 300, "training__batch_size": 32, "training__dropout": 0.0}
    sizes = {"model__hidden_size": 16, "training__learning_rate": 0.01}
    found = {
        name: build_trainer(
            make_settings(task=task, model={"name": name}, **training, **sizes), seed=0
        ).advance(300)
        for name in ("lstm", "no_backbone")
    }
    assert found["lstm"].validation_accuracy == 1
    assert (found["no_backbone"].validation_accuracy or 0) < 0.8


def test_a_table_of_positions_has_the_length_of_the_task(make_settings: MakeSettings) -> None:
    settings = trial(make_settings, "mnist", MODELS["lstm_star"])
    description = describe(settings)
    assert (description.num_positions, description.by_group["positions"]) == (16, (128, 128))
    assert describe(trial(make_settings, "mnist", SMALL)).num_positions is None


def test_fingerprints_name_the_architecture(make_settings: MakeSettings) -> None:
    names = [
        fingerprints(trial(make_settings, "bit_xor", MODELS[name]))["backbone"]
        for name in ("lstm", "frozen_lstm", "lstm_star", "no_backbone")
    ]
    star = "lstm-2x8-layer_norm-residual-positions10"
    assert names == ["lstm-2x8-layer_norm", "lstm-2x8-layer_norm", star, "no_backbone-8"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {**SMALL, "trained": ["attention"]},
            "selector 'attention' matches nothing\n"
            "  fix: this model's groups are input, output, layer_norm, recurrent",
        ),
        (
            {**SMALL, "read": "first"},
            "model.read: the first tokens see none of the later ones in a model that reads left to"
            " right\n  fix: read: last",
        ),
        (
            {**SMALL, "read": "mean"},
            "model.read: the task asks about each of 5 tokens, which their mean cannot tell apart\n"
            "  fix: read: last",
        ),
        (
            {**SMALL, "input_layer": "embedding"},
            "model.input_layer: the task's tokens are features, and only ids can be embedded\n"
            "  fix: input_layer: auto",
        ),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_built(
    make_settings: MakeSettings, model: dict[str, Any], message: str
) -> None:
    settings = trial(make_settings, "bit_xor", model)
    for build in (describe, lambda settings: build_trainer(settings, seed=0)):
        with pytest.raises(ModelError) as caught:
            build(settings)
        assert str(caught.value) == message


def test_a_backbone_that_takes_no_ids_reads_them_as_one_hot_vectors(
    make_settings: MakeSettings,
) -> None:
    vit = {"backbone": "tiny-vit", "init": "random"}
    with pytest.raises(ModelError) as caught:
        describe(trial(make_settings, "listops", vit))
    assert str(caught.value) == (
        "model.input_layer: the task's tokens are ids, which this backbone does not take\n"
        "  fix: input_layer: linear"
    )
    assert describe(trial(make_settings, "listops", {**vit, "input_layer": "linear"}))


def test_a_trial_reads_its_tokens_in_the_same_order_whenever_it_is_built(
    make_settings: MakeSettings,
) -> None:
    settings = trial(make_settings, "listops", MODELS["shuffled_lstm"])
    task, cpu = build_task(settings), torch.device("cpu")
    orders = [build_model(settings, seed, task, cpu)[0]._order for seed in (0, 0, 1)]
    assert orders[0] is not None
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert sorted(orders[0].tolist()) == list(range(20))
