"""What a sweep file may ask of each family of backbones."""

from __future__ import annotations

import pytest

from fpt_ray.config import load_sweep

VIT = "google/vit-base-patch16-224-in21k"


@pytest.mark.parametrize("input_layer", ["auto", "embedding"])
@pytest.mark.parametrize("task", ["listops, max_length: 64", "remote_homology, max_length: 64"])
def test_ids_need_a_linear_input_layer_before_a_vision_backbone(refuse, task, input_layer):
    sets = [f"model.backbone={VIT}", f"task={{name: {task}}}", f"model.input_layer={input_layer}"]
    (problem,) = refuse("", *sets)
    assert "the task's tokens are ids, which this backbone does not take" in problem
    assert problem.endswith("fix: input_layer: linear")


def test_ids_as_one_hot_vectors_and_features_go_into_a_vision_backbone(write):
    ids = ["task={name: listops, max_length: 64}", "model.input_layer=linear"]
    for sets in (ids, ["task={name: cifar10}"]):
        assert load_sweep(write(""), [f"model.backbone={VIT}", *sets])


def test_rotary_positions_cannot_be_trained(refuse):
    sets = ["model.backbone=HuggingFaceTB/SmolLM2-135M", "model.trained=[input, positions]"]
    (problem,) = refuse("", *sets)
    assert "selector 'positions' matches nothing" in problem
    assert "fix: leave positions out: this model has no table of them (rotary" in problem
    assert problem.endswith("groups are input, output, layer_norm, attention, feed_forward")


@pytest.mark.parametrize("backbone", ["t5-small", "HuggingFaceTB/SmolLM2-135M"])
def test_relative_and_rotary_positions_have_no_limit_and_no_table_to_extend(
    refuse, write, backbone
):
    sets = [f"model.backbone={backbone}", "task={name: cifar10_lra}"]
    assert load_sweep(write(""), sets)
    (problem,) = refuse("", *sets, "model.extend_positions=2000")
    assert f"{backbone} takes sequences of any length: it has no table to extend" in problem
    assert problem.endswith("fix: extend_positions: null")


@pytest.mark.parametrize(
    ("backbone", "limit"), [("roberta-base", 512), (VIT, 196), ("tiny-longformer", 64)]
)
def test_sequences_are_no_longer_than_the_rows_that_tokens_get(refuse, backbone, limit):
    sets = [f"model.backbone={backbone}", "model.init=random", "task={name: cifar10_lra}"]
    (problem,) = refuse("", *sets)
    assert f"has 1024 tokens, but {backbone} has {limit} positions" in problem
    assert problem.endswith("or model.extend_positions: 1024")


@pytest.mark.parametrize(
    ("backbone", "num_layers"), [("t5-base", 12), ("distilbert-base-uncased", 6)]
)
def test_no_more_layers_than_there_are(refuse, backbone, num_layers):
    (problem,) = refuse("", f"model.backbone={backbone}", "model.num_layers=99")
    assert f"num_layers is 99, but {backbone} has {num_layers}" in problem


def test_groups_that_a_family_lacks_are_told_with_those_it_has(refuse):
    (problem,) = refuse("", "model.backbone=distilbert-base-uncased", "model.trained=[other]")
    assert "selector 'other' matches nothing" in problem
    assert problem.endswith("input, output, positions, layer_norm, attention, feed_forward")
