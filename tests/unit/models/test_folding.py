"""Several trials in one batch, each computed as if it were alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
import torch

from fpt_ray.models import Ends, Folded
from tests.unit.models.folding_trials import (
    BODIES,
    FEATURES,
    GROUPS,
    NUM_READ,
    SEQ_LENGTH,
    alone,
    build,
    close,
    draw_batch,
    draw_values,
    largest,
    loss_of,
    names_of,
)


def check(
    family: str,
    groups: Collection[str] = ("input", "output"),
    ends: Ends = FEATURES,
    trials: int = 3,
    masked: bool = False,
    **changes: Any,
) -> None:
    """Compare a folded model with single ones: logits and gradients."""
    model = build(family, ends, changes.get("attention", "eager"))
    own = names_of(model, family, groups)
    if not own:
        pytest.skip(f"{family} has no {groups}")
    values, batch = draw_values(model, own, trials), draw_batch(ends, trials, masked)
    orders = torch.stack([torch.randperm(SEQ_LENGTH + 1) for _ in range(trials)])
    keys = orders if changes.get("shuffled") else None
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


def test_attention_may_be_scaled_dot_product_attention() -> None:
    for family in ("gpt2", "bert", "roberta", "distilbert", "vit", "llama"):
        check(family, ("all",), attention="sdpa")
        check(family, ("all",), masked=True, attention="sdpa")
