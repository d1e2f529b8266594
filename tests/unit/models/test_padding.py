"""Padding never changes a prediction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fpt_ray.config import UNTRAINED
from fpt_ray.models import (
    BackboneChoice,
    Ends,
    SequenceModel,
    draw_ends,
    find_backbone,
    materialise,
)

LENGTHS = torch.tensor([9, 4, 2, 7])
MASK = torch.arange(9) < LENGTHS[:, None]
NUM_READ = 2
ENDS = {
    "features": Ends("features", input_size=3, num_read=NUM_READ, num_logits=4),
    "ids": Ends("ids", input_size=11, num_read=NUM_READ, num_logits=4),
}

pytestmark = [
    pytest.mark.parametrize("backbone", UNTRAINED),
    pytest.mark.parametrize("attention", ["eager", "sdpa"]),
]


@pytest.fixture(params=["features", "ids"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(backbone: str, attention: str, kind: str, seed: int = 0) -> SequenceModel:
    """Build a model that trains everything, in evaluation mode."""
    found = find_backbone(BackboneChoice(backbone, "random"))
    model = SequenceModel(found, ENDS[kind], 0.1, attention)
    draw_ends(model.input_layer, model.output_layer, 1.41, seed)
    names = frozenset(name for name, _ in model.named_parameters())
    materialise(model, found, names, seed, torch.device("cpu"))
    return model.eval()


def draw(kind: str, seed: int = 0) -> Tensor:
    """Draw tokens, everywhere, in the padding too."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "ids":
        return torch.randint(0, 11, (4, 9), generator=generator)
    return torch.randn(4, 9, 3, generator=generator)


def with_other_padding(tokens: Tensor, scale: int) -> Tensor:
    """Replace the padding, by large values where tokens are features."""
    if tokens.dim() == 2:
        return torch.where(MASK, tokens, (tokens + scale) % 11)
    return torch.where(MASK[..., None], tokens, 100.0 * scale)


def gradients(model: SequenceModel, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def assert_near(found: Any, expected: Any, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_a_sequence_alone_gets_the_logits_that_it_gets_beside_longer_ones(
    backbone: str, attention: str, kind: str
) -> None:
    model, tokens = build(backbone, attention, kind), draw(kind)
    padded = model(tokens, MASK)
    alone = [model(row[None, :n]) for row, n in zip(tokens, LENGTHS.tolist(), strict=True)]
    assert padded.shape == (4, NUM_READ, 4)
    assert_near(padded, torch.cat(alone))


def test_what_stands_in_the_padding_does_not_matter(
    backbone: str, attention: str, kind: str
) -> None:
    model, tokens = build(backbone, attention, kind), draw(kind)
    first, second = (model(with_other_padding(tokens, scale), MASK) for scale in (1, 5))
    assert torch.equal(first, second)


def test_gradients_are_those_of_the_sequences_alone(
    backbone: str, attention: str, kind: str
) -> None:
    model, tokens = build(backbone, attention, kind), draw(kind)
    padded = gradients(model, model(with_other_padding(tokens, 1), MASK).square().sum())
    alone = [
        gradients(model, model(row[None, :n]).square().sum())
        for row, n in zip(tokens, LENGTHS.tolist(), strict=True)
    ]
    for name, gradient in padded.items():
        expected = torch.stack([row[name] for row in alone]).sum(dim=0)
        scale = float(expected.abs().max().clamp(min=1))
        assert_near(gradient / scale, expected / scale)


def test_sequences_begin_at_the_first_position(backbone: str, attention: str, kind: str) -> None:
    model, tokens = build(backbone, attention, kind), draw(kind)
    found = find_backbone(BackboneChoice(backbone, "random"))
    if found.family.positions is None:
        pytest.skip("it has no position table")
    mask = MASK[1:3]
    loss = model(tokens[1:3], mask).square().sum()
    rows = gradients(model, loss)[f"backbone.{found.family.positions}"].flatten(0, -2)
    used = rows.abs().sum(dim=1).nonzero().flatten()
    first = found.family.reserved_rows(found.config)
    assert (used - first).tolist() == list(range(int(mask.sum(dim=1).max())))


def test_a_mask_without_padding_changes_nothing(backbone: str, attention: str, kind: str) -> None:
    model, tokens = build(backbone, attention, kind), draw(kind)
    whole = torch.ones(tokens.shape[:2], dtype=torch.bool)
    assert_near(model(tokens, whole), model(tokens), atol=1e-6)


def test_half_precision_agrees(backbone: str, attention: str, kind: str) -> None:
    model, tokens = build(backbone, attention, kind), draw(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(with_other_padding(tokens, 3), MASK)
    assert_near(rounded.float(), model(tokens, MASK), atol=0.1)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_several_models_are_computed_in_one_call(backbone: str, attention: str, kind: str) -> None:
    models = [build(backbone, attention, kind, seed) for seed in range(2)]
    state, _ = torch.func.stack_module_state(models)
    tokens = torch.stack([draw(kind, seed) for seed in range(2)])
    masks = torch.stack([MASK, MASK.roll(1, dims=0)])

    def call(parameters: dict[str, Tensor], tokens: Tensor, mask: Tensor) -> Tensor:
        return torch.func.functional_call(models[0], parameters, (tokens, mask))

    together = torch.vmap(call)(state, tokens, masks)
    for index, model in enumerate(models):
        assert_near(together[index], model(tokens[index], masks[index]))
