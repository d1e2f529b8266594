"""Which trials are expected to share packs, as far as settings tell."""

from __future__ import annotations

from typing import Any

import pytest

from fpt_ray.config import TrialSettings
from fpt_ray.config.packing import pack_group

BASE: dict[str, Any] = {
    "task": {"name": "bit_xor"},
    "model": {"backbone": "tiny-gpt2", "init": "random", "trained": ["input", "output"]},
}


def group(seed: int = 1, **values: Any) -> str:
    keys = {key.replace("__", "."): value for key, value in values.items()}
    return pack_group(TrialSettings.model_validate(BASE).with_values(keys), seed)


@pytest.mark.parametrize(
    "values",
    [
        {"training__learning_rate": 0.1},
        {"training__grad_clip_norm": None},
        {"training__max_steps": 7},
        {"model__orthogonal_gain": 2.0},
        {
            "model__trained": [
                "layer_norm[0:1]",
                "positions",
                "output",
                "layer_norm - layer_norm[0]",
            ]
        },
    ],
)
def test_what_each_trial_has_of_its_own_keeps_a_group_together(values: dict[str, Any]) -> None:
    assert group(**values) == group()


@pytest.mark.parametrize(
    "values",
    [
        {"training__batch_size": 3},
        {"training__precision": "bf16"},
        {"training__dropout": 0.3},
        {"training__optimizer.beta1": 0.5},
        {"training__validation_size": 9},
        {"task__length": 3},
        {"model__backbone": "tiny-bert"},
        {"model__init": "pretrained"},
        {"model__read": "mean"},
        {"model__trained": ["output", "attention[-1]"]},
        {"seed": 2},
    ],
)
def test_what_changes_shapes_or_weights_splits_a_group(values: dict[str, Any]) -> None:
    assert group(**values) != group()


def test_a_seed_splits_only_where_it_draws_weights_that_stay_as_they_are() -> None:
    assert group(1, model__init="pretrained") == group(2, model__init="pretrained")
    assert group(1, model__trained=["all"]) == group(2, model__trained=["all"])
    lstm: dict[str, Any] = {"name": "lstm", "hidden_size": 8, "trained": ["output"]}
    assert group(1, model=lstm) != group(2, model=lstm)
    assert group(1, model=lstm | {"trained": ["all"]}) == group(
        2, model=lstm | {"trained": ["all"]}
    )
