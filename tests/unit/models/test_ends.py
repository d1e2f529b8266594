"""The layers at the ends of the model, and which tokens they read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fpt_ray.models import BackboneChoice, Ends, NoBackbone, SequenceModel, draw_ends, find_backbone

LENGTHS = torch.tensor([9, 4, 2, 7])
MASK = torch.arange(9) < LENGTHS[:, None]
IDS = torch.randint(0, 11, (4, 9), generator=torch.Generator().manual_seed(2))


def fpt(ends: Ends) -> SequenceModel:
    backbone = find_backbone(BackboneChoice("tiny-gpt2", "random"))
    model = SequenceModel(backbone, ends, dropout=0.2)
    draw_ends(model.input_layer, model.output_layer, 1.41, seed=5)
    return model


def bare(**ends: Any) -> SequenceModel:
    """Build a model without a backbone that reads ids."""
    model = SequenceModel(
        NoBackbone(6), Ends("ids", 11, **{"num_read": 1, **ends}, num_logits=4), 0
    )
    draw_ends(model.input_layer, model.output_layer, 1.41, seed=5)
    return model.eval()


def shuffled(seed: int = 0, num_read: int = 2) -> SequenceModel:
    model = bare(num_read=num_read)
    model.shuffle(seed, seq_length=9)
    return model


def read_by(model: SequenceModel, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """Give the tokens that a model's body sees, in the order in which it sees them."""
    seen: list[Tensor] = []
    hook = model.input_layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(tokens, mask)
    hook.remove()
    return seen[0]


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


@pytest.mark.parametrize("input_mlp", [(), (5,)])
def test_a_linear_layer_reads_ids_as_one_hot_vectors(input_mlp: tuple[int, ...]) -> None:
    model = bare(input_layer="linear", input_mlp=input_mlp)
    first, *rest = model.input_layer
    one_hot = nn.functional.one_hot(IDS, 11).float()
    expected = nn.Sequential(*rest)(one_hot @ first.weight.T + first.bias)
    torch.testing.assert_close(model.input_layer(IDS), expected)


def test_the_linear_layer_for_ids_is_orthogonal_and_has_no_bias() -> None:
    layer = fpt(Ends("ids", 11, 1, 2, input_layer="linear")).input_layer[0]
    gram = layer.weight.T @ layer.weight
    torch.testing.assert_close(gram, 1.41**2 * torch.eye(11), rtol=0, atol=1e-5)
    assert layer.bias.abs().max() == 0


def test_gradients_of_the_linear_layer_for_ids_are_those_of_one_hot_vectors() -> None:
    layer = bare(input_layer="linear").input_layer[0]
    layer(IDS).square().sum().backward()
    found, layer.weight.grad = layer.weight.grad, None
    one_hot = nn.functional.one_hot(IDS, 11).float()
    nn.functional.linear(one_hot, layer.weight, layer.bias).square().sum().backward()
    torch.testing.assert_close(found, layer.weight.grad)


def test_the_first_tokens_are_read() -> None:
    model = bare(read="first", num_read=2)
    expected = model.output_layer(model.input_layer(IDS))[:, :2]
    torch.testing.assert_close(model(IDS), expected)
    torch.testing.assert_close(model(IDS, MASK), expected)


def test_the_mean_over_real_tokens_is_read() -> None:
    model = bare(read="mean")
    hidden = model.input_layer(IDS)
    means = [row[:n].mean(dim=0) for row, n in zip(hidden, LENGTHS.tolist(), strict=True)]
    expected = model.output_layer(torch.stack(means)[:, None])
    torch.testing.assert_close(model(IDS, MASK), expected)
    whole = model.output_layer(hidden.mean(dim=1, keepdim=True))
    torch.testing.assert_close(model(IDS), whole)


def test_the_mean_does_not_see_what_stands_in_the_padding() -> None:
    model = SequenceModel(NoBackbone(6), Ends("features", 3, 1, 4, read="mean"), 0).eval()
    draw_ends(model.input_layer, model.output_layer, 1.41, seed=5)
    tokens = torch.randn(4, 9, 3, generator=torch.Generator().manual_seed(1))
    spoiled = torch.where(MASK[..., None], tokens, torch.nan)
    torch.testing.assert_close(model(spoiled, MASK), model(tokens, MASK), rtol=0, atol=0)


def test_shuffled_tokens_are_the_same_ones_in_one_order_for_all_sequences() -> None:
    model = shuffled()
    tokens = torch.arange(9).expand(4, 9)
    seen = read_by(model, tokens)
    assert (seen == seen[0]).all()
    order = seen[0].tolist()
    assert sorted(order[:7]) == list(range(7)) != order[:7]
    assert order[7:] == [7, 8]
    assert torch.equal(read_by(model, tokens), seen)


def test_the_seed_draws_the_order_of_shuffled_tokens() -> None:
    tokens = torch.arange(9).expand(1, 9)
    orders = [read_by(shuffled(seed), tokens) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def test_shuffling_leaves_padding_and_the_last_real_tokens_where_they_are() -> None:
    tokens = torch.arange(9).expand(4, 9)
    seen = read_by(shuffled(), tokens, MASK)
    for row, length in zip(seen.tolist(), LENGTHS.tolist(), strict=True):
        assert sorted(row[: length - 2]) == list(range(length - 2))
        assert row[length - 2 :] == list(range(length - 2, 9))
    # The keys of positions are the same, so shorter sequences follow the order of the longest.
    longest = seen[0].tolist()
    assert seen[3].tolist()[:5] == [position for position in longest[:7] if position < 5]


def test_a_sequence_is_shuffled_alone_as_beside_longer_ones() -> None:
    model = shuffled()
    seen = read_by(model, IDS, MASK)
    for row, tokens, length in zip(seen, IDS, LENGTHS.tolist(), strict=True):
        assert torch.equal(read_by(model, tokens[None, :length])[0], row[:length])


def test_features_are_shuffled_as_ids_are() -> None:
    ids = torch.arange(9).expand(4, 9)
    model = SequenceModel(NoBackbone(6), Ends("features", 3, 2, 4), 0).eval()
    draw_ends(model.input_layer, model.output_layer, 1.41, seed=5)
    model.shuffle(0, seq_length=9)
    seen = read_by(model, ids[..., None].expand(4, 9, 3).float(), MASK)
    assert torch.equal(seen, read_by(shuffled(), ids, MASK)[..., None].expand(4, 9, 3).float())


@pytest.mark.parametrize("read", ["last", "first", "mean"])
def test_models_of_several_seeds_are_computed_in_one_call(read: str) -> None:
    models = [bare(read=read, input_layer="linear") for _ in range(2)]
    for seed, model in enumerate(models):
        model.shuffle(seed, seq_length=9)
    state = torch.func.stack_module_state(models)
    ids, masks = torch.stack([IDS, IDS.flip(1)]), torch.stack([MASK, MASK.roll(1, dims=0)])

    def call(state: Any, ids: Tensor, mask: Tensor) -> Tensor:
        return torch.func.functional_call(models[0], state, (ids, mask))

    together = torch.vmap(call)(state, ids, masks)
    for index, model in enumerate(models):
        torch.testing.assert_close(together[index], model(ids[index], masks[index]))
