"""What a folded model promises beside equality with single trials."""

from __future__ import annotations

import copy

import pytest
import torch

from fpt_ray.models import Folded
from fpt_ray.models.cuts import find_cut
from fpt_ray.models.families import set_dropout
from tests.unit.models.folding_trials import (
    BODIES,
    FEATURES,
    GROUPS,
    SEQ_LENGTH,
    alone,
    build,
    close,
    draw_batch,
    draw_values,
    loss_of,
    names_of,
)


@pytest.mark.parametrize("family", BODIES)
def test_what_is_not_a_number_stays_in_its_trial(family: str) -> None:
    model = build(family)
    own = names_of(model, family, ("all",))
    values, (tokens, mask) = draw_values(model, own, 3), draw_batch(FEATURES, 3, masked=True)
    folded, found = Folded(model, own), []
    for broken in (1.0, float("nan"), float("inf")):
        changed = {n: value.detach().clone().requires_grad_() for n, value in values.items()}
        with torch.no_grad():
            for value in changed.values():
                value[1] *= broken
        folded.bind(changed)
        logits = folded(tokens, mask)
        logits.square().sum().backward()
        found.append([logits.detach(), *(value.grad for value in changed.values())])
    for numbers in found[1:]:
        assert not all(number[1].isfinite().all() for number in numbers)
        for number, expected in zip(numbers, found[0], strict=True):
            assert torch.equal(number[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("family", BODIES)
def test_frozen_parameters_are_the_models_own_under_their_names(family: str) -> None:
    for groups in GROUPS:
        model = build(family)
        own = names_of(model, family, groups)
        if own:
            frozen = {n: value for n, value in model.named_parameters() if n not in own}
            folded = Folded(model, own)
            left = dict(folded.model.named_parameters())
            assert left.keys() == frozen.keys()
            assert all(left[name] is value for name, value in frozen.items())
            assert sorted(folded.own) == own


@pytest.mark.parametrize("family", BODIES)
def test_values_may_be_parts_of_one_buffer_and_change_in_place(family: str) -> None:
    """Gradients are accumulated where they are, as optimizers of many trials need them."""
    model = build(family)
    own = names_of(model, family, ("all",))
    values, batch = draw_values(model, own, 3), draw_batch(FEATURES, 3, masked=False)
    expected, expected_gradients = alone(model, values, batch)
    flat = torch.cat([values[name].detach().flatten(1) for name in own], dim=1)
    gradients, parts, start = torch.zeros_like(flat), {}, 0
    for name in own:
        shape = values[name].shape
        size = shape[1:].numel()
        parts[name] = flat[:, start : start + size].view(shape).requires_grad_()
        parts[name].grad = gradients[:, start : start + size].view(shape)
        start += size
    folded = Folded(model, own)
    folded.bind(parts)
    folded.train()
    with torch.no_grad():
        flat.mul_(2)
        changed = folded(*batch)
        flat.div_(2)
    assert not torch.allclose(changed, expected)
    logits = folded(*batch)
    loss_of(logits).backward()
    close(logits.detach(), expected)
    together = torch.cat([expected_gradients[name].flatten(1) for name in own], dim=1)
    close(gradients, together)


@pytest.mark.parametrize("family", BODIES)
def test_other_trials_and_sizes_may_follow(family: str) -> None:
    model = build(family)
    own = names_of(model, family, ("all",))
    folded = Folded(copy.deepcopy(model), own)
    for trials, batch_size in ((3, 4), (1, 4), (2, 3), (4, 1), (1, 1)):
        values = draw_values(model, own, trials)
        tokens, _ = draw_batch(FEATURES, trials, masked=False)
        batch = tokens[:, :batch_size], None
        folded.bind(values)
        close(folded(*batch), alone(model, values, batch)[0])


@pytest.mark.parametrize("family", BODIES)
def test_what_lies_above_a_cut_is_folded_too(family: str) -> None:
    last = {"lstm": "recurrent[-1]", "no_backbone": "output"}.get(family, "attention[-1]")
    for groups in ((last, "output"), ("output",)):
        model = build(family)
        own = names_of(model, family, groups)
        for name in own:
            model.get_parameter(name).requires_grad_()
        found = find_cut(model, torch.zeros(1, SEQ_LENGTH, 3))
        if found is None:
            assert family in ("t5", "longformer")
            continue
        values, (tokens, mask) = draw_values(model, own, 3), draw_batch(FEATURES, 3, masked=True)
        orders = torch.stack([torch.randperm(SEQ_LENGTH) for _ in range(3)])
        held = []
        for trial in range(3):
            model._order = orders[trial]
            with torch.no_grad():
                held.append(found.below(tokens[trial], mask[trial]))
        folded = Folded(model, own)
        folded.bind(values, orders)
        logits = folded.above(found.moved(folded.model), torch.stack(held), tokens, mask)
        close(logits, folded(tokens, mask).detach())
        loss_of(logits).backward()
        assert all(value.grad is not None for value in values.values())


def test_dropout_drops_in_training_only_and_not_the_same_in_all_trials() -> None:
    model = build("bert")
    set_dropout(model, 0.5)
    own = names_of(model, "bert", ("input", "layer_norm", "output"))
    values = draw_values(model, own, 1)
    folded = Folded(model, own)
    folded.bind({name: value.repeat_interleave(2, 0) for name, value in values.items()})
    tokens = draw_batch(FEATURES, 1, masked=False)[0].repeat_interleave(2, 0)
    first, second = folded.train()(tokens)
    assert not torch.allclose(first, second)
    first, second = folded.eval()(tokens)
    assert torch.equal(first, second)


def test_only_what_fits_is_bound() -> None:
    model = build("gpt2")
    own = names_of(model, "gpt2", ("input", "output"))
    with pytest.raises(ValueError, match=r"the model has no parameters \['nothing'\]"):
        Folded(model, [*own, "nothing"])
    with pytest.raises(ValueError, match="trials without parameters of their own are one trial"):
        Folded(model, [])
    values, (tokens, _) = draw_values(model, own, 3), draw_batch(FEATURES, 2, masked=False)
    folded = Folded(model, own)
    with pytest.raises(ValueError, match=r"there are no values of \['output_layer.0.weight'\]"):
        folded.bind({n: v for n, v in values.items() if n != "output_layer.0.weight"})
    with pytest.raises(ValueError, match=r"the numbers of trials differ: \[2, 3\]"):
        folded.bind(values | {own[0]: values[own[0]][:2]})
    with pytest.raises(ValueError, match=r"the numbers of trials differ: \[2, 3\]"):
        folded.bind(values, torch.zeros(2, SEQ_LENGTH, dtype=torch.int64))
    folded.bind(values)
    with pytest.raises(ValueError, match="2 trials' tokens for 3 trials"):
        folded(tokens)
