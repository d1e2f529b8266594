"""Which trials may share a pack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fpt_ray.config import TrialSettings
from fpt_ray.training import prepare_trial

MakeSettings = Callable[..., TrialSettings]


@pytest.mark.parametrize(
    "values",
    [
        {"training__learning_rate": 0.1},
        {"training__grad_clip_norm": None},
        {"training__max_steps": 7},
        {"training__eval_every": 3},
        {"model__orthogonal_gain": 1.0},
        {"model__trained": ["input", "output"]},
        {"model__trained": ["input", "positions"]},
        {"model__trained": ["input", "layer_norm[1:]"]},
    ],
)
def test_what_is_each_trials_own_splits_no_pack(
    settings_of: MakeSettings, values: dict[str, Any]
) -> None:
    key = prepare_trial(settings_of(), 0).key
    assert prepare_trial(settings_of(**values), 1).key == key
    assert hash(prepare_trial(settings_of(**values), 1).key) == hash(key)


@pytest.mark.parametrize(
    "values",
    [
        {"task": {"name": "bit_memory", "patterns": 2, "length": 40, "token_bits": 10}},
        {"task": {"name": "bit_xor", "length": 4}},
        {"data__mode": "streaming"},
        {"training__batch_size": 3},
        {"training__dropout": 0.1},
        {"training__precision": "bf16"},
        {"training__optimizer": {"beta1": 0.8}},
        {"training__optimizer": {"epsilon": 1e-3}},
        {"training__validation_size": 17},
        {"training__test_size": 33},
        {"model__trained": ["input", "attention"]},
        {"model__trained": ["input", "feed_forward[0]"]},
        {"model__trained": ["output"]},
        {"model__trained": ["output", "layer_norm[-1]"]},
        {"model__num_layers": 1},
        {"model__extend_positions": 90},
        {"model__output_mlp": [3]},
        {"model__read": "mean"},
        {"model__token_order": "shuffled"},
        {"model__init": "random"},
        {"model__init": "statistics"},
    ],
)
def test_what_changes_shapes_or_weights_splits_packs(
    settings_of: MakeSettings, values: dict[str, Any]
) -> None:
    if "model__read" in values:
        values = {**values, "task": {"name": "listops", "max_length": 20, "train_size": 40}}
        other = settings_of(task=values["task"])
        assert prepare_trial(settings_of(**values), 0).key != prepare_trial(other, 0).key
        return
    assert prepare_trial(settings_of(**values), 0).key != prepare_trial(settings_of(), 0).key


@pytest.mark.parametrize("init", ["random", "statistics"])
def test_seeds_split_packs_where_they_draw_frozen_weights(
    settings_of: MakeSettings, init: str
) -> None:
    keys = [prepare_trial(settings_of(model__init=init), seed).key for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    every = settings_of(model__init=init, model__trained=["all"])
    assert prepare_trial(every, 0).key == prepare_trial(every, 1).key
