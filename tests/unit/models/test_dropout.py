from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fpt_ray.models.families import set_dropout
from fpt_ray.models.families.dropout import Dropout


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(shape, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_the_share_of_zeros_and_the_mean_are_as_asked(probability: float) -> None:
    torch.manual_seed(0)
    dropped = Dropout(probability)(ones(1000, 1001))
    zeros, scaled = dropped.unique().tolist()
    assert zeros == 0.0
    assert scaled == pytest.approx(1 / (1 - probability), rel=1e-4)
    assert (dropped == 0).float().mean().item() == pytest.approx(probability, abs=2e-3)
    assert dropped.mean().item() == pytest.approx(1.0, abs=5e-3)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = Dropout(0.5)(ones(1 << 20)).detach().gt(0).float() - 0.5
    for distance in (1, 2, 3, 4, 5, 64):
        correlation = 4 * (kept[distance:] * kept[:-distance]).mean().item()
        assert abs(correlation) < 5e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_pass_where_numbers_did(dtype: torch.dtype) -> None:
    hidden = ones(7, 11, dtype=dtype)
    dropped = Dropout(0.3)(hidden)
    (gradient,) = torch.autograd.grad(dropped.sum(), hidden)
    assert gradient.dtype == dropped.dtype == dtype
    assert torch.equal(gradient, dropped)


def test_masks_follow_the_global_seed_and_differ_from_call_to_call() -> None:
    dropout = Dropout(0.5)
    torch.manual_seed(3)
    first, second = dropout(ones(100)), dropout(ones(100))
    torch.manual_seed(3)
    assert torch.equal(dropout(ones(100)), first)
    assert not torch.equal(first, second)


def test_nothing_is_kept_for_the_backward_pass() -> None:
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda found: found):  # type: ignore[arg-type]
        Dropout(0.5)(ones(100))
    assert not kept


@pytest.mark.parametrize("dropout", [Dropout(0.0), Dropout(0.5).eval()])
def test_without_dropout_nothing_is_computed(dropout: Dropout) -> None:
    hidden = ones(10)
    assert torch.equal(dropout(hidden), hidden)


def test_every_dropout_of_a_model_is_exchanged() -> None:
    shared = nn.Dropout(0.9)
    model = nn.ModuleDict({"first": shared, "again": shared, "deep": nn.Sequential(nn.Dropout())})
    set_dropout(model, 0.25)
    found = [each for each in model.modules() if isinstance(each, nn.Dropout)]
    assert len(found) == 3
    assert all(type(each) is Dropout and each.p == 0.25 for each in found)
