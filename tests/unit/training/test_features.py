"""Activations that are kept: equal results, computed once."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fpt_ray.config import TrialSettings
from fpt_ray.models.cuts import BlockCut, Cut, OutputCut
from fpt_ray.training import Evaluation, Trainer, build_trainer, train
from fpt_ray.training import features as features_module
from fpt_ray.training.blobs import unpack

MakeSettings = Callable[..., TrialSettings]
DATA_DIR = Path(__file__).parents[2] / "data"
TASKS: dict[str, dict[str, Any]] = {
    "mnist": {"name": "mnist", "patch_size": 7},
    "listops": {"name": "listops", "max_length": 48, "train_size": 100},
}
NUM_TRAIN = {"mnist": 600 - 502, "listops": 100}
NUM_VALIDATION = {"mnist": 502, "listops": 40}


@pytest.fixture
def settings_of(make_settings: MakeSettings) -> MakeSettings:
    """A function that makes a trial of five epochs over about 100 samples, without dropout."""

    def make(task: str, *trained: str, **values: Any) -> TrialSettings:
        defaults = {
            "task": TASKS[task],
            "data__dir": str(DATA_DIR),
            "model__trained": list(trained),
            "training__batch_size": 10,
            "training__max_steps": 50,
            "training__dropout": 0.0,
            "training__learning_rate": 0.01,
            "training__validation_size": NUM_VALIDATION[task],
            "training__test_size": 20,
        }
        return make_settings(**(defaults | values))

    return make


def figures(evaluations: list[Evaluation]) -> list[float]:
    """Losses and accuracies, one after the other."""
    return [
        value or 0.0
        for e in evaluations
        for value in (e.train_loss, e.validation_loss, e.validation_accuracy)
    ]


def without(settings: TrialSettings) -> TrialSettings:
    return settings.with_values({"data.cache_features": "off"})


def kind(trainer: Trainer) -> tuple[type[Cut] | None, type[Cut] | None]:
    """The cuts of training and of validation."""
    stores = (trainer._stores.train, trainer._stores.validation)
    first, second = (None if store is None else type(store._cut) for store in stores)
    return first, second


def watch(trainer: Trainer) -> Counter[str]:
    """Count the sequences that go through the first block, in either mode of the model.

    What is kept is computed as in evaluation, whatever it is kept for.
    """
    seen: Counter[str] = Counter()

    def note(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen["train" if module.training else "evaluate"] += len(args[0])

    path = "h.0" if hasattr(trainer._model.backbone, "h") else "encoder.layer.0"
    trainer._model.backbone.get_submodule(path).register_forward_pre_hook(note)
    return seen


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("backbone", ["tiny-gpt2", "tiny-bert"])
@pytest.mark.parametrize(
    ("trained", "cut"),
    [
        (("output",), OutputCut),
        (("output", "layer_norm[-1]"), BlockCut),
        (("attention[-1]", "output", "feed_forward[-1]"), BlockCut),
    ],
)
def test_losses_and_scores_are_those_without(
    settings_of: MakeSettings, task: str, backbone: str, trained: tuple[str, ...], cut: type[Cut]
) -> None:
    settings = settings_of(task, *trained, model__backbone=backbone)
    plain = build_trainer(without(settings), seed=3)
    assert kind(plain) == (None, None)
    expected = figures(list(train(plain, eval_every=13)))
    trainer = build_trainer(settings, seed=3)
    assert kind(trainer) == (cut, cut)
    found = figures(list(train(trainer, eval_every=13)))
    assert found == pytest.approx(expected, rel=1e-6)
    assert trainer.test().loss == pytest.approx(plain.test().loss, rel=1e-6)
    trainer.verify_frozen()


def test_a_trained_final_norm_leaves_all_blocks_below(settings_of: MakeSettings) -> None:
    settings = settings_of("listops", "output", "layer_norm - layer_norm[:]")
    expected = figures(list(train(build_trainer(without(settings), seed=3), eval_every=25)))
    trainer = build_trainer(settings, seed=3)
    assert figures(list(train(trainer, eval_every=25))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        {"name": "lstm", "hidden_size": 8, "num_layers": 2, "trained": ["output"]},
        {"name": "lstm", "hidden_size": 8, "num_layers": 2, "trained": ["output", "recurrent[-1]"]},
        {"backbone": "tiny-t5", "init": "random", "trained": ["output"]},
        {"backbone": "tiny-bert", "init": "random", "trained": ["output"], "read": "mean"},
        {"backbone": "tiny-bert", "init": "random", "trained": ["output"], "output_mlp": [5]},
        {
            "backbone": "tiny-bert",
            "init": "random",
            "trained": ["output", "attention[-1]"],
            "token_order": "shuffled",
        },
    ],
)
def test_every_body_and_every_option_profits(
    settings_of: MakeSettings, model: dict[str, Any]
) -> None:
    settings = settings_of("listops", "output", training__max_steps=30)
    settings = settings.with_values({"model": model})
    expected = figures(list(train(build_trainer(without(settings), seed=3), eval_every=15)))
    trainer = build_trainer(settings, seed=3)
    assert None not in kind(trainer)
    assert figures(list(train(trainer, eval_every=15))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("trained", [("output",), ("output", "attention[-1]")])
@pytest.mark.parametrize("backbone", ["tiny-gpt2", "tiny-bert"])
def test_the_backbone_computes_each_sample_once(
    settings_of: MakeSettings, backbone: str, trained: tuple[str, ...]
) -> None:
    settings = settings_of(
        "mnist", *trained, model__backbone=backbone, training__validation_size=500
    )
    trainer = build_trainer(settings, seed=3)
    seen = watch(trainer)
    list(train(trainer, eval_every=10))
    assert seen == {"evaluate": 100 + 500}


def test_the_first_epoch_computes_no_more_than_it_needs(settings_of: MakeSettings) -> None:
    trainer = build_trainer(settings_of("mnist", "output"), seed=3)
    seen = watch(trainer)
    trainer.advance(4)
    assert seen == {"evaluate": 40 + NUM_VALIDATION["mnist"]}


def test_a_resumed_trial_fills_its_memory_anew(settings_of: MakeSettings) -> None:
    settings = settings_of("listops", "output", "layer_norm[-1]")
    expected = figures(list(train(build_trainer(settings, seed=3), eval_every=10)))
    interrupted, found = build_trainer(settings, seed=3), []
    while not interrupted.finished:
        found.append(interrupted.advance(10))
        saved = interrupted.state()
        interrupted = build_trainer(settings, seed=3)
        interrupted.load_state(saved)
    assert figures(found) == pytest.approx(expected, rel=1e-6)


def test_going_back_leaves_what_is_kept_right(settings_of: MakeSettings) -> None:
    trainer = build_trainer(settings_of("mnist", "output", "layer_norm[-1]"), seed=3)
    trainer.advance(5)
    saved = trainer.state()
    expected = figures([trainer.advance(20)])
    trainer.load_state(saved)
    assert figures([trainer.advance(20)]) == pytest.approx(expected, rel=1e-6)


def test_a_state_says_nothing_of_what_is_kept(settings_of: MakeSettings) -> None:
    settings = settings_of("mnist", "output")
    states = []
    for chosen in (settings, without(settings)):
        trainer = build_trainer(chosen, seed=3)
        trainer.advance(5)
        states.append(unpack(trainer.state(), "state").tensors)
    assert states[0].keys() == states[1].keys()


def test_dropout_makes_training_random_but_not_evaluation(settings_of: MakeSettings) -> None:
    settings = settings_of("mnist", "output", training__dropout=0.1, training__max_steps=12)
    trainer = build_trainer(settings, seed=3)
    assert kind(trainer) == (None, OutputCut)
    seen = watch(trainer)
    found = figures(list(train(trainer, eval_every=6)))
    assert seen == {"train": 120, "evaluate": 502}
    expected = figures(list(train(build_trainer(without(settings), seed=3), eval_every=6)))
    assert found == pytest.approx(expected, rel=1e-6)


def test_augmented_images_are_never_kept_but_those_of_evaluation_are(
    settings_of: MakeSettings,
) -> None:
    settings = settings_of("mnist", "output", task__augment=True)
    trainer = build_trainer(settings, seed=3)
    seen = watch(trainer)
    found = figures(list(train(trainer, eval_every=25)))
    assert seen == {"train": 500, "evaluate": 502}
    assert trainer._stores.train is None or trainer._stores.train._values is None
    expected = figures(list(train(build_trainer(without(settings), seed=3), eval_every=25)))
    assert found == pytest.approx(expected, rel=1e-6)


def test_generated_training_is_never_kept_but_its_evaluation_is(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings(
        model__trained=["output"], training__dropout=0.0, training__max_steps=20
    )
    trainer = build_trainer(settings, seed=3)
    assert kind(trainer) == (None, OutputCut)
    seen = watch(trainer)
    found = figures(list(train(trainer, eval_every=5)))
    assert seen == {"train": 80, "evaluate": 16}
    expected = figures(list(train(build_trainer(without(settings), seed=3), eval_every=5)))
    assert found == pytest.approx(expected, rel=1e-6)


def test_samples_that_training_sees_once_are_not_kept(settings_of: MakeSettings) -> None:
    trainer = build_trainer(settings_of("listops", "output", training__max_steps=10), seed=3)
    assert kind(trainer) == (None, OutputCut)


@pytest.mark.parametrize(
    "values",
    [
        {"data__cache_features": "off"},
        {"training__precision": "bf16"},
        {"model__trained": ["output", "input"]},
        {"model__trained": ["output", "positions"]},
        {"model__trained": ["all"]},
    ],
)
def test_nothing_is_kept_where_it_is_switched_off_or_would_change(
    settings_of: MakeSettings, values: dict[str, Any]
) -> None:
    assert kind(build_trainer(settings_of("mnist", "output", **values), seed=3)) == (None, None)


def test_the_memory_is_bounded_and_validation_comes_first(
    settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train_bytes, validation_bytes = 98 * 32 * 4, 502 * 32 * 4
    settings = settings_of("mnist", "output")
    expected = figures(list(train(build_trainer(without(settings), seed=3), eval_every=25)))
    for limit, kinds in {
        train_bytes + validation_bytes: (OutputCut, OutputCut),
        train_bytes + validation_bytes - 1: (None, OutputCut),
        validation_bytes - 1: (OutputCut, None),
        train_bytes - 1: (None, None),
    }.items():
        monkeypatch.setattr(features_module, "MAX_BYTES", limit)
        with caplog.at_level("INFO", features_module.__name__):
            caplog.clear()
            trainer = build_trainer(settings, seed=3)
        assert kind(trainer) == kinds
        assert len(caplog.messages) == kinds.count(None)
        assert figures(list(train(trainer, eval_every=25))) == pytest.approx(expected, rel=1e-6)
        stores = (trainer._stores.train, trainer._stores.validation)
        held = [store._values for store in stores if store is not None]
        assert sum(values.nbytes for values in held if values is not None) <= limit


def test_the_memory_goes_with_the_trial(settings_of: MakeSettings) -> None:
    trainer = build_trainer(settings_of("mnist", "output", "layer_norm[-1]"), seed=3)
    trainer.advance(3)
    stores = (trainer._stores.train, trainer._stores.validation)
    kept = [weakref.ref(store._values) for store in stores if store is not None]
    del stores
    assert [tuple(values().shape) for values in kept] == [(98, 16, 32), (502, 16, 32)]
    gc.disable()
    try:
        del trainer
        assert [values() for values in kept] == [None, None]
    finally:
        gc.enable()
