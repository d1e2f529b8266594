"""What trials of a device share, and what each has of its own."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from fpt_ray.config import TrialSettings
from fpt_ray.models.cuts import BlockCut, OutputCut
from fpt_ray.training import Pack, PackedTrial, Shelf, build_trainer, prepare_trial
from fpt_ray.training import features as features_module
from fpt_ray.training.features import Store
from tests.unit.training.pack.trials import Packs, assert_close, figures, prepare_all

MakeSettings = Callable[..., TrialSettings]

NUM_TRAIN, NUM_VALIDATION = 600 - 502, 502


@pytest.fixture
def images_of(settings_of: MakeSettings) -> MakeSettings:
    """A function that makes trials of five epochs over about 100 images."""

    def make(*trained: str, family: str = "gpt2", **values: Any) -> TrialSettings:
        defaults: dict[str, Any] = {
            "task": {"name": "mnist", "patch_size": 7},
            "model__trained": list(trained),
            "training__batch_size": 10,
            "training__max_steps": 50,
            "training__learning_rate": 0.01,
            "training__validation_size": NUM_VALIDATION,
            "training__test_size": 20,
        }
        return settings_of(family, **(defaults | values))

    return make


def stores_of(trial: PackedTrial) -> list[Store | None]:
    return [trial.parts.stores.train, trial.parts.stores.validation]


def check(jobs: Sequence[tuple[TrialSettings, int]], num_steps: int = 13) -> list[PackedTrial]:
    """Compare trials that keep activations in a pack with trials alone that keep none."""
    trials = prepare_all(jobs)
    plain = [
        build_trainer(settings.with_values({"data.cache_features": "off"}), seed)
        for settings, seed in jobs
    ]
    packs = Packs()
    for _ in range(2):
        evaluations = packs.advance(trials, num_steps)
        for found, trainer in zip(evaluations, plain, strict=True):
            expected = figures(trainer.advance(num_steps))
            assert figures(found) == pytest.approx(expected, rel=1e-5)
    for trial, trainer in zip(trials, plain, strict=True):
        assert_close(trial, trainer)
        trial.verify_frozen()
    return trials


def test_all_trials_use_one_copy_of_the_frozen_weights(settings_of: MakeSettings) -> None:
    published = settings_of().model.backbone
    trials = prepare_all([(settings_of(model__extend_positions=80), seed) for seed in range(4)])
    pack = Pack(trials[0])
    pack.train(trials, 1)
    folded = dict(pack._bench._computation().model.model.named_parameters())
    own = set(trials[0].parts.own)
    frozen = trials[0].parts.shapes.keys() - own
    assert folded.keys() == frozen
    alone = build_trainer(settings_of(model__extend_positions=80), 0)
    mapped = dict(alone._model.named_parameters())
    for trial in trials:
        assert trial.parts.weights is trials[0].parts.weights
    for name in frozen:
        assert folded[name].data_ptr() == mapped[name].data_ptr(), (name, published)


def test_a_pack_has_a_row_for_each_trial(settings_of: MakeSettings) -> None:
    trials = prepare_all([(settings_of(), seed) for seed in range(4)])
    pack = Pack(trials[0])
    pack.train(trials, 1)
    rows = pack._bench._rows
    size = sum(trials[0].parts.shapes[name].numel() for name in trials[0].parts.own)
    assert len(rows.values) == 4
    assert size <= rows.values.shape[1] <= size + 16 * len(rows.leaves) + 256
    buffers = (rows.exp_avg, rows.exp_avg_sq, rows.gradients.buffer)
    assert [tuple(b.shape) for b in buffers] == [(4, rows.layout.num_moving)] * 3
    for index, trial in enumerate(trials):
        row = rows.values[index]
        for value in trial.values().values():
            assert 0 <= value.data_ptr() - row.data_ptr() < 4 * row.numel()


def test_a_trial_that_waits_holds_its_own_numbers_only(settings_of: MakeSettings) -> None:
    trials = prepare_all([(settings_of(), seed) for seed in range(3)])
    for trial in trials:
        held = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for tensor in (trial.numbers.values, trial.numbers.exp_avg, trial.numbers.exp_avg_sq)
        }
        assert sum(held.values()) <= 1.2 * 3 * 4 * trial.num_trained_parameters
    models = {
        id(found) for found in gc.get_objects() if type(found).__name__ == "SequenceModel"
    } & {id(trial.parts.weights.model) for trial in trials}
    assert len(models) == 1


def test_rows_are_made_anew_only_when_the_trials_change(settings_of: MakeSettings) -> None:
    trials = prepare_all([(settings_of(), seed) for seed in range(3)])
    pack = Pack(trials[0])
    pack.train(trials, 1)
    rows = pack._bench._rows
    pack.evaluate(trials)
    pack.test(trials[:2])
    pack.train(trials, 2)
    assert pack._bench._rows is rows
    pack.train(trials[:2], 1)
    assert pack._bench._rows is not rows


@pytest.mark.parametrize(
    ("trained", "cut"),
    [
        (("output",), OutputCut),
        (("output", "layer_norm[-1]"), BlockCut),
        (("attention[-1]", "output"), BlockCut),
    ],
)
@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_kept_activations_give_what_trials_give_without(
    images_of: MakeSettings, family: str, trained: tuple[str, ...], cut: type[object]
) -> None:
    rates = (0.001, 0.0003, 0.002)
    jobs = [
        (images_of(*trained, family=family, training__learning_rate=rate), seed)
        for rate, seed in zip(rates, (0, 0, 1), strict=True)
    ]
    trials = check(jobs)
    assert len({trial.key for trial in trials}) == 1
    assert type(trials[0].parts.cut) is cut
    assert None not in stores_of(trials[0])
    assert stores_of(trials[0]) == stores_of(trials[1])
    assert set(stores_of(trials[0])).isdisjoint(stores_of(trials[2]))


def test_activations_of_ragged_sequences_are_kept(settings_of: MakeSettings) -> None:
    listops = {"name": "listops", "max_length": 48, "train_size": 100}
    values = {"task": listops, "training__batch_size": 10, "training__max_steps": 50}
    settings = settings_of("bert", **values, model__trained=["output", "layer_norm[-1]"])
    trials = check([(settings, seed) for seed in range(3)])
    assert None not in stores_of(trials[0])


def test_shuffled_trials_keep_activations_of_their_own(images_of: MakeSettings) -> None:
    settings = images_of("output", model__token_order="shuffled", model__input_layer="linear")
    trials = check([(settings, 0), (settings, 0), (settings, 1)])
    assert stores_of(trials[0]) == stores_of(trials[1])
    assert set(stores_of(trials[0])).isdisjoint(stores_of(trials[2]))


def test_each_sample_goes_through_the_backbone_once_for_all_that_share(
    images_of: MakeSettings,
) -> None:
    rates = (0.01, 0.003, 0.02)
    trials = prepare_all([(images_of("output", training__learning_rate=r), 0) for r in rates])
    seen: Counter[str] = Counter()

    def note(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen["sequences"] += len(args[0])

    trials[0].parts.stores.train._model.backbone.h[0].register_forward_pre_hook(note)
    packs = Packs()
    packs.advance(trials, 25)
    packs.advance(trials, 25)
    # 10 of 98 samples a batch: an epoch's last batch holds samples of the next one.
    assert NUM_TRAIN + NUM_VALIDATION <= seen["sequences"] <= NUM_TRAIN + NUM_VALIDATION + 10


def test_the_shelf_is_bounded_for_all_trials_together(
    images_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_bytes, validation_bytes = NUM_TRAIN * 32 * 4, NUM_VALIDATION * 32 * 4
    settings = images_of("output")
    shelf = Shelf(max_bytes=2 * validation_bytes + train_bytes)
    trials = [prepare_trial(settings, seed, shelf=shelf) for seed in (0, 0, 1, 2)]
    kept = [[store is not None for store in stores_of(trial)] for trial in trials]
    assert kept == [[True, True], [True, True], [False, True], [False, False]]
    assert trials[0].key == trials[1].key
    assert len({trial.key for trial in trials}) == 3
    assert shelf.num_bytes == 2 * validation_bytes + train_bytes
    del trials[0], trials[0]
    gc.collect()
    assert shelf.num_bytes == validation_bytes
    monkeypatch.setattr(features_module, "MAX_BYTES", 0)
    assert stores_of(prepare_trial(settings, 0)) == [None, None]


@pytest.mark.parametrize(
    "values",
    [{"data__cache_features": "off"}, {"training__precision": "bf16"}],
)
def test_nothing_is_kept_where_it_is_switched_off_or_would_change(
    images_of: MakeSettings, values: dict[str, Any]
) -> None:
    trial = prepare_trial(images_of("output", **values), 0)
    assert stores_of(trial) == [None, None]
    assert Packs().advance([trial], 2)[0].step == 2


def test_augmented_images_are_kept_for_evaluation_only(images_of: MakeSettings) -> None:
    settings = images_of("output", task__augment=True)
    trials = check([(settings, 0), (settings, 1)])
    assert trials[0].parts.stores.validation._values is not None
    assert trials[0].parts.stores.train is None or trials[0].parts.stores.train._values is None
