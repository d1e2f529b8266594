"""Several trials in one batch, each computed as if it were alone."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import pytest
import torch
from torch import Tensor

from fpt_ray.config import resolve
from fpt_ray.models import (
    FAMILIES,
    BackboneChoice,
    Body,
    Ends,
    Folded,
    LSTMBody,
    NoBackbone,
    SequenceModel,
    draw_ends,
    find_backbone,
    materialise,
    parameter_roles,
)

CPU = torch.device("cpu")
BATCH, SEQ_LENGTH, NUM_READ = 4, 8, 2
FEATURES = Ends("features", input_size=3, num_read=NUM_READ, num_logits=4)
IDS = Ends("ids", input_size=11, num_read=NUM_READ, num_logits=4)
LSTM = LSTMBody(8, 2, residual=True, num_positions=SEQ_LENGTH)
BODIES = (*FAMILIES, "lstm", "no_backbone")
GROUPS = (
    ("output",),
    ("input", "output"),
    ("input", "positions", "other", "layer_norm", "output"),
    ("attention", "recurrent"),
    ("feed_forward", "output"),
    ("layer_norm[0]", "attention[-1]", "recurrent[-1]", "output"),
    ("all",),
)

Values = dict[str, Tensor]
Batch = tuple[Tensor, Tensor | None]


def body_of(family: str) -> Body:
    if family == "lstm":
        return LSTM
    if family == "no_backbone":
        return NoBackbone(5)
    return find_backbone(BackboneChoice(f"tiny-{family}", "random"))


def build(family: str, ends: Ends = FEATURES) -> SequenceModel:
    """Build a model with numbers none of which is a family's zero or one, all of them frozen."""
    body = body_of(family)
    model = SequenceModel(body, ends, dropout=0.0)
    draw_ends(model.input_layer, model.output_layer, 1.41, 0)
    materialise(model, body, frozenset(name for name, _ in model.named_parameters()), 0, CPU)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) / 10)
    return model.requires_grad_(False)


def names_of(model: SequenceModel, family: str, groups: Collection[str]) -> list[str]:
    """List the parameters of those groups that the model has."""
    roles = parameter_roles(model, body_of(family))
    known = {role.group for role in roles} | {"all"}
    found = [group for group in groups if group.partition("[")[0] in known]
    return sorted(resolve(found, roles)) if found else []


def draw_values(model: SequenceModel, own: Collection[str], trials: int) -> Values:
    """Draw each trial's own numbers around the model's."""
    generator = torch.Generator().manual_seed(2)
    values = {}
    for name in own:
        parameter = model.get_parameter(name)
        noise = torch.randn(trials, *parameter.shape, generator=generator) / 5
        values[name] = (parameter + noise).requires_grad_()
    return values


def draw_batch(ends: Ends, trials: int, masked: bool) -> Batch:
    generator = torch.Generator().manual_seed(3)
    shape = (trials, BATCH, SEQ_LENGTH)
    lengths = torch.randint(NUM_READ, SEQ_LENGTH + 1, shape[:2], generator=generator)
    mask = torch.arange(SEQ_LENGTH) < lengths[..., None] if masked else None
    if ends.input_kind == "ids":
        return torch.randint(ends.input_size, shape, generator=generator), mask
    return torch.randn(*shape, ends.input_size, generator=generator), mask


def alone(
    model: SequenceModel, values: Values, batch: Batch, orders: Tensor | None = None
) -> tuple[Tensor, Values]:
    """Compute the trials' logits and gradients one by one."""
    tokens, mask = batch
    logits, gradients = [], []
    for trial in range(len(tokens)):
        single = copy.deepcopy(model)
        single._order = None if orders is None else orders[trial]
        trained = {name: single.get_parameter(name).requires_grad_() for name in values}
        for name, parameter in trained.items():
            parameter.data = values[name][trial].detach().clone()
        logits.append(single(tokens[trial], None if mask is None else mask[trial]))
        found = torch.autograd.grad(loss_of(logits[-1]), list(trained.values()))
        gradients.append(dict(zip(values, found, strict=True)))
    together = {name: torch.stack([found[name] for found in gradients]) for name in values}
    return torch.stack(logits).detach(), together


def loss_of(logits: Tensor) -> Tensor:
    return (logits.sin() + logits.square() / 7).sum()


def check(
    family: str,
    groups: Collection[str] = ("input", "output"),
    ends: Ends = FEATURES,
    trials: int = 3,
    masked: bool = False,
    shuffled: bool = False,
) -> None:
    """Compare a folded model with single ones: logits and gradients."""
    model = build(family, ends)
    own = names_of(model, family, groups)
    if not own:
        pytest.skip(f"{family} has no {groups}")
    values, batch = draw_values(model, own, trials), draw_batch(ends, trials, masked)
    orders = torch.stack([torch.randperm(SEQ_LENGTH + 1) for _ in range(trials)])
    keys = orders if shuffled else None
    expected, expected_gradients = alone(model, values, batch, keys)
    folded = Folded(model, own)
    folded.bind(values, keys)
    logits = folded(*batch)
    loss_of(logits).backward()
    close(logits, expected)
    # The gradients of some, such as biases of keys, are zero but for rounding.
    least = torch.stack([largest(value) for value in expected_gradients.values()]).amax(0) / 100
    for name in own:
        close(values[name].grad, expected_gradients[name], least)


def close(found: Tensor | None, expected: Tensor, least: Tensor | float = 0.0) -> None:
    """Claim equality to 1e-5 of each trial's largest number, or of the least that is given."""
    assert found is not None
    assert found.shape == expected.shape
    scale = torch.maximum(largest(expected), torch.as_tensor(least))
    assert (largest(found - expected) / scale).max() < 1e-5


def largest(values: Tensor) -> Tensor:
    return values.flatten(1).abs().amax(1)


@pytest.mark.parametrize("groups", GROUPS, ids="-".join)
@pytest.mark.parametrize("family", BODIES)
def test_each_trial_is_computed_as_if_it_were_alone(family: str, groups: tuple[str, ...]) -> None:
    check(family, groups)
    check(family, groups, masked=True)


@pytest.mark.parametrize("family", BODIES)
def test_a_single_trial_may_be_folded(family: str) -> None:
    check(family, ("all",), trials=1)
    check(family, ("input", "layer_norm", "output"), trials=1, masked=True)


@pytest.mark.parametrize("family", BODIES)
def test_each_trial_has_an_order_of_its_own(family: str) -> None:
    check(family, shuffled=True)
    check(family, shuffled=True, masked=True)


def ends_with(**changes: Any) -> Ends:
    kind = changes.get("input_kind", "features")
    given = {"input_kind": kind, "input_size": 11 if kind == "ids" else 3, "num_logits": 4}
    return Ends(**{"num_read": NUM_READ, **given, **changes})


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("trials", [1, 3])
@pytest.mark.parametrize(
    "ends",
    [
        ends_with(input_kind="ids"),
        ends_with(input_kind="ids", input_layer="linear"),
        ends_with(input_kind="ids", input_mlp=(6, 7), output_mlp=(5,)),
        ends_with(input_kind="ids", input_layer="linear", input_mlp=(6,)),
        ends_with(input_mlp=(6,), output_mlp=(7, 5)),
        ends_with(read="first"),
        ends_with(read="mean", num_read=1),
    ],
    ids=str,
)
def test_all_ends_may_be_folded(ends: Ends, trials: int, masked: bool) -> None:
    check("bert", ("input", "output"), ends, trials, masked)
