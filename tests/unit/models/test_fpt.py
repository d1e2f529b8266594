"""The layers at the ends of the model."""

from __future__ import annotations

import torch
from torch import nn

from fpt_ray.models import BackboneChoice, Ends, SequenceModel, draw_ends, find_backbone


def fpt(ends: Ends) -> SequenceModel:
    backbone = find_backbone(BackboneChoice("tiny-gpt2", "random"))
    model = SequenceModel(backbone, ends, dropout=0.2)
    draw_ends(model.input_layer, model.output_layer, 1.41, seed=5)
    return model


def sizes(layers: nn.Module) -> list[tuple[int, int]]:
    linears = [layer for layer in layers.modules() if isinstance(layer, nn.Linear)]
    return [(layer.in_features, layer.out_features) for layer in linears]


def test_the_input_layer_is_orthogonal_with_its_gain_and_has_no_bias() -> None:
    layer = fpt(Ends("features", 16, 1, 2)).input_layer[0]
    gram = layer.weight.T @ layer.weight
    torch.testing.assert_close(gram, 1.41**2 * torch.eye(16), rtol=0, atol=1e-5)
    assert layer.bias.abs().max() == 0


def test_the_output_layer_is_drawn_as_torch_does() -> None:
    layer = fpt(Ends("features", 16, 1, 200)).output_layer[0]
    bound = 32**-0.5
    assert 0.95 * bound < layer.weight.abs().max() <= bound
    assert layer.bias.abs().max() <= bound


def test_hidden_sizes_stack_layers() -> None:
    model = fpt(Ends("features", 3, 1, 2, input_mlp=(5, 7), output_mlp=(9,)))
    assert sizes(model.input_layer) == [(3, 5), (5, 7), (7, 32)]
    assert sizes(model.output_layer) == [(32, 9), (9, 2)]
    kinds = [type(layer).__name__ for layer in model.output_layer]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear"]


def test_ids_are_embedded() -> None:
    plain = fpt(Ends("ids", 11, 1, 2))
    assert plain.input_layer(torch.tensor([[1, 10]])).shape == (1, 2, 32)
    deep = fpt(Ends("ids", 11, 1, 2, input_mlp=(6,)))
    assert deep.input_layer(torch.tensor([[1, 10]])).shape == (1, 2, 32)
    assert sizes(deep.input_layer) == [(6, 32)]


def test_the_seed_draws_the_ends() -> None:
    first, again = (fpt(Ends("features", 4, 1, 2)) for _ in range(2))
    assert torch.equal(first.input_layer[0].weight, again.input_layer[0].weight)
    assert torch.equal(first.output_layer[0].weight, again.output_layer[0].weight)
