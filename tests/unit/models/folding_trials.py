"""What the tests of folded models share: models, trials and single trials to compare with."""

from __future__ import annotations

import copy
from collections.abc import Collection

import torch
from torch import Tensor

from fpt_ray.config import resolve
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


def build(family: str, ends: Ends = FEATURES, attention: str = "eager") -> SequenceModel:
    """Build a model with numbers none of which is a family's zero or one, all of them frozen."""
    body = body_of(family)
    model = SequenceModel(body, ends, 0.0, attention)
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
        values[name] = (parameter.detach() + noise).requires_grad_()
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


def close(found: Tensor | None, expected: Tensor, least: Tensor | float = 0.0) -> None:
    """Claim equality to 1e-5 of each trial's largest number, or of the least that is given."""
    assert found is not None
    assert found.shape == expected.shape
    scale = torch.maximum(largest(expected), torch.as_tensor(least))
    assert (largest(found - expected) / scale).max() < 1e-5


def largest(values: Tensor) -> Tensor:
    return values.flatten(1).abs().amax(1)
