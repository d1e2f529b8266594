"""The LSTM baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from fpt_ray.models import (
    Ends,
    LSTMBody,
    SequenceModel,
    draw_ends,
    materialise,
    parameter_roles,
)

ENDS = Ends("features", input_size=3, num_read=2, num_logits=4)
FULL = LSTMBody(16, 3, residual=True, num_positions=9)


def build(body: LSTMBody, seed: int = 0, trained: str = "recurrent") -> SequenceModel:
    """Build a materialised model in evaluation mode whose given group is trained."""
    model = SequenceModel(body, ENDS, dropout=0.1)
    roles = parameter_roles(model, body)
    draw_ends(model.input_layer, model.output_layer, 1.41, seed)
    names = frozenset(role.name for role in roles if role.group == trained)
    materialise(model, body, names, seed, torch.device("cpu"))
    return model.eval()


def draw_tokens(length: int = 7) -> Tensor:
    return torch.randn(2, length, 3, generator=torch.Generator().manual_seed(1))


def by_hand(state: Mapping[str, Tensor], body: LSTMBody, tokens: Tensor) -> Tensor:
    """Compute the logits of one sequence after the other, token by token."""
    logits = []
    for sequence in tokens.double():
        hidden = list(affine(state, "input_layer.0", sequence))
        if body.num_positions is not None:
            hidden = [x + p for x, p in zip(hidden, state["backbone.positions"], strict=False)]
        for layer in range(body.num_layers):
            hidden = layer_by_hand(state, f"backbone.layers.{layer}", body, hidden)
        logits.append(affine(state, "output_layer.0", torch.stack(hidden[-2:])))
    return torch.stack(logits)


def layer_by_hand(
    state: Mapping[str, Tensor], path: str, body: LSTMBody, inputs: list[Tensor]
) -> list[Tensor]:
    recurrent = {
        name: state[f"{path}.recurrent.{name}_l0"]
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    memory, cell = (torch.zeros(body.hidden_size, dtype=torch.float64) for _ in range(2))
    outputs = []
    for x in inputs:
        gates = recurrent["weight_ih"] @ x + recurrent["bias_ih"]
        gates = gates + recurrent["weight_hh"] @ memory + recurrent["bias_hh"]
        enter, forget, candidate, leave = gates.chunk(4)
        cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        memory = leave.sigmoid() * cell.tanh()
        out = memory
        if body.layer_norm:
            centred = out - out.mean()
            scaled = centred / (centred.square().mean() + 1e-5).sqrt()
            out = scaled * state[f"{path}.layer_norm.weight"] + state[f"{path}.layer_norm.bias"]
        outputs.append(x + out if body.residual else out)
    return outputs


def affine(state: Mapping[str, Tensor], path: str, x: Tensor) -> Tensor:
    return x @ state[f"{path}.weight"].T + state[f"{path}.bias"]


@pytest.mark.parametrize(
    "body", [LSTMBody(16, 3), LSTMBody(8, 1, layer_norm=False), FULL, LSTMBody(8, 2, False, True)]
)
def test_logits_equal_those_of_a_loop_over_tokens(body: LSTMBody) -> None:
    model, tokens = build(body), draw_tokens()
    state = {name: value.detach().double() for name, value in model.named_parameters()}
    expected = by_hand(state, body, tokens).float()
    torch.testing.assert_close(model(tokens), expected, rtol=1e-5, atol=1e-5)


def test_every_parameter_has_a_group_and_a_layer() -> None:
    model = SequenceModel(FULL, ENDS, 0.1)
    roles = parameter_roles(model, FULL)
    assert sorted(role.name for role in roles) == sorted(dict(model.named_parameters()))
    layers: dict[str, set[Any]] = {}
    for role in roles:
        layers.setdefault(role.group, set()).add(role.layer)
    assert layers == {
        "input": {None},
        "output": {None},
        "positions": {None},
        "recurrent": {0, 1, 2},
        "layer_norm": {0, 1, 2},
    }
    numel = sum(role.numel for role in roles if role.group == "recurrent")
    assert numel == 3 * (8 * 16 * 16 + 8 * 16)


def test_the_seed_draws_the_weights() -> None:
    first, again, other = (FULL.weights(seed).tensors for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    same = {name for name in first if torch.equal(first[name], other[name])}
    assert same == {name for name in first if "layer_norm" in name}


def test_weights_are_drawn_as_torch_draws_them() -> None:
    tensors = LSTMBody(64, 1, num_positions=100).weights(3).tensors
    bound = 64**-0.5
    assert 0.99 * bound < tensors["layers.0.recurrent.weight_hh_l0"].abs().max() <= bound
    assert tensors["layers.0.layer_norm.weight"].eq(1).all()
    assert tensors["positions"].std() == pytest.approx(0.02, rel=0.05)


def test_drawing_weights_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    LSTMBody(4, 1).weights(5)
    assert torch.equal(torch.get_rng_state(), before)


def test_frozen_weights_are_shared_and_trained_ones_are_not() -> None:
    first, second = (dict(build(FULL).backbone.named_parameters()) for _ in range(2))
    for name, parameter in first.items():
        assert parameter.requires_grad is ("recurrent" in name)
        shared = parameter.data_ptr() == second[name].data_ptr()
        assert shared is not parameter.requires_grad


def test_each_shape_has_a_fingerprint_that_names_it() -> None:
    assert LSTMBody(768, 3).fingerprint() == "lstm-3x768-layer_norm"
    assert LSTMBody(8, 1, layer_norm=False).fingerprint() == "lstm-1x8"
    star = LSTMBody(768, 12, residual=True, num_positions=49)
    assert star.fingerprint() == "lstm-12x768-layer_norm-residual-positions49"


def test_dropout_is_between_the_layers() -> None:
    model = SequenceModel(FULL, ENDS, dropout=0.25)
    dropouts = [m for m in model.backbone.modules() if isinstance(m, torch.nn.Dropout)]
    assert [dropout.p for dropout in dropouts] == [0.25, 0.25]


def test_padding_changes_no_logits() -> None:
    model, tokens = build(FULL), draw_tokens(9)
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    padded = model(torch.where(mask[..., None], tokens, 1e3), mask)
    alone = torch.cat([model(tokens[:1]), model(tokens[1:, :4])])
    torch.testing.assert_close(padded, alone, rtol=0, atol=1e-6)


def test_the_first_positions_of_the_table_are_added_to_shorter_sequences() -> None:
    model = build(FULL, trained="positions")
    model(draw_tokens(5)).sum().backward()
    gradient = model.backbone.get_parameter("positions").grad
    assert gradient is not None
    assert gradient.abs().sum(dim=1).gt(0).tolist() == [True] * 5 + [False] * 4
