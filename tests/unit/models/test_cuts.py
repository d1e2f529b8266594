"""Models that are computed in two parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fpt_ray.config import BACKBONE_SHAPES, resolve
from fpt_ray.models import (
    FAMILIES,
    BackboneChoice,
    Body,
    Ends,
    LSTMBody,
    NoBackbone,
    SequenceModel,
    draw_ends,
    find_backbone,
    materialise,
    parameter_roles,
)
from fpt_ray.models.cuts import BlockCut, OutputCut, find_cut

CPU = torch.device("cpu")
ENDS = Ends("features", input_size=3, num_read=2, num_logits=4)
SEQ_LENGTH = 9
CHAINED = ("gpt2", "bert", "roberta", "distilbert", "vit", "llama")
UNCHAINED = ("t5", "longformer")
FINAL_NORM = ("gpt2", "vit", "llama")
"""Families with a layer norm behind their blocks."""


def body_of(family: str) -> Body:
    if family == "lstm":
        return LSTMBody(hidden_size=8, num_layers=2)
    return find_backbone(BackboneChoice(f"tiny-{family}", "random"))


def build(body: Body, *trained: str) -> SequenceModel:
    torch.manual_seed(0)
    model = SequenceModel(body, ENDS, dropout=0.0)
    names = resolve(trained, parameter_roles(model, body))
    draw_ends(model.input_layer, model.output_layer, 1.41, 0)
    materialise(model, body, names, 0, CPU)
    return model


def batch() -> tuple[Tensor, Tensor]:
    """Sequences of 6, 8, 3 and 8 tokens."""
    torch.manual_seed(1)
    mask = torch.arange(8) < torch.tensor([6, 8, 3, 8])[:, None]
    return torch.randn(4, 8, 3) * mask[..., None], mask


def gradients(model: SequenceModel, logits: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    logits.square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def check_parts(model: SequenceModel) -> None:
    """Compare the two parts with the whole: logits and gradients, with and without padding.

    In float64, since how float32 rounds differs between CPUs.
    """
    model.double()
    cut = find_cut(model, torch.zeros(1, SEQ_LENGTH, 3, dtype=torch.float64))
    assert cut is not None
    tokens, mask = batch()
    tokens = tokens.double()
    for shown in (mask, None):
        whole = model(tokens, shown)
        expected = gradients(model, whole)
        with torch.no_grad():
            held = cut.below(tokens, shown)
        assert held.shape == (4, cut.length(tokens), cut.shape[1])
        parts = cut.above(held, tokens, shown)
        torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gradients(model, parts), expected, rtol=1e-5, atol=1e-6)


def depth(model: SequenceModel) -> int | None:
    cut = find_cut(model, torch.zeros(1, SEQ_LENGTH, 3))
    return cut.depth if isinstance(cut, BlockCut) else None


def test_every_family_is_tried() -> None:
    assert {*CHAINED, *UNCHAINED} == set(FAMILIES)
    assert {f"tiny-{family}" for family in FAMILIES} <= set(BACKBONE_SHAPES)


@pytest.mark.parametrize("family", [*CHAINED, *UNCHAINED, "lstm"])
def test_below_the_output_layer_every_body_can_be_cut(family: str) -> None:
    model = build(body_of(family), "output")
    cut = find_cut(model, torch.zeros(1, SEQ_LENGTH, 3))
    assert isinstance(cut, OutputCut)
    assert cut.shape[0] == ENDS.num_read
    check_parts(model)


def test_without_a_backbone_the_input_layer_is_below_the_cut() -> None:
    check_parts(build(NoBackbone(5), "output"))


@pytest.mark.parametrize("family", [*CHAINED, "lstm"])
def test_blocks_in_a_chain_can_be_cut_below_the_first_trained_one(family: str) -> None:
    last = "recurrent[-1]" if family == "lstm" else "attention[-1]"
    for trained in ((last, "output"), (last,), ("layer_norm[-1]", "output")):
        model = build(body_of(family), *trained)
        assert depth(model) == 1
        check_parts(model)


@pytest.mark.parametrize("family", FINAL_NORM)
def test_a_trained_norm_behind_the_blocks_leaves_all_of_them_below(family: str) -> None:
    model = build(body_of(family), "output", "layer_norm - layer_norm[:]")
    assert depth(model) == 2
    check_parts(model)


@pytest.mark.parametrize("family", UNCHAINED)
def test_blocks_that_hand_on_more_than_hidden_states_are_not_cut(family: str) -> None:
    model = build(body_of(family), "output", "attention[-1]")
    assert find_cut(model, torch.zeros(1, SEQ_LENGTH, 3)) is None


@pytest.mark.parametrize("family", [*CHAINED, *UNCHAINED, "lstm"])
def test_what_is_trained_below_the_second_block_leaves_no_cut(family: str) -> None:
    body = body_of(family)
    groups = {role.group for role in parameter_roles(SequenceModel(body, ENDS, 0.0), body)}
    for trained in ("layer_norm[0]", *({"input", "positions"} & groups)):
        assert find_cut(build(body, "output", trained), torch.zeros(1, SEQ_LENGTH, 3)) is None


def test_looking_for_a_cut_leaves_the_model_as_it_was() -> None:
    model = build(body_of("gpt2"), "output", "attention[-1]")
    for training in (True, False):
        model.train(training)
        names = [name for name, _ in model.named_modules()]
        find_cut(model, torch.zeros(1, SEQ_LENGTH, 3))
        assert [name for name, _ in model.named_modules()] == names
        assert {module.training for module in model.modules()} == {training}
        assert not any(module._forward_hooks for module in model.modules())


def test_an_error_in_one_part_leaves_the_model_whole() -> None:
    model = build(body_of("bert"), "output", "attention[-1]")
    cut = find_cut(model, torch.zeros(1, SEQ_LENGTH, 3))
    assert cut is not None
    tokens, mask = batch()
    before = model(tokens, mask)
    for part in (lambda: cut.below(tokens[..., :1], mask), lambda: cut.above(tokens, tokens, mask)):
        with pytest.raises(RuntimeError):
            part()
        assert torch.equal(model(tokens, mask), before)
