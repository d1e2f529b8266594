"""Single modules of several trials, any of whose parameters may be the trials' own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain, combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.activations import NewGELUActivation
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm
from transformers.pytorch_utils import Conv1D

from fpt_ray.models.ends import OneHotLinear
from fpt_ray.models.folding import norms
from fpt_ray.models.folding.looped import Looped
from fpt_ray.models.folding.rules import RULES, Replacer
from fpt_ray.models.folding.stacked import Fold, Stacked
from fpt_ray.models.lstm import Stack
from tests.unit.models.folding_trials import close

BATCH, SEQ_LENGTH, SIZE = 2, 5, 6


class Scaled(nn.Module):
    """A module of a type without a rule, which holds a parameter and another module."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(SIZE))
        self.inner = nn.Linear(SIZE, SIZE)
        self.again = self.inner
        self.offset = 3.0

    def forward(self, tokens: Tensor, shared: Tensor, *, factor: Tensor) -> tuple[Tensor, Any]:
        assert self.again is self.inner
        return self.again(tokens * self.scale + shared) * factor, (tokens.cos(), self.offset)


class Tied(nn.Module):
    """One linear layer in two places, and another that has its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(SIZE, SIZE)
        self.again = self.first
        self.other = nn.Linear(SIZE, SIZE)
        self.other.weight = self.first.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.other(self.again(self.first(tokens).tanh()).tanh())


def features(trials: int) -> Tensor:
    return torch.randn(trials * BATCH, SEQ_LENGTH, SIZE)


def ids(trials: int) -> Tensor:
    return torch.randint(SIZE, (trials * BATCH, SEQ_LENGTH))


MODULES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "linear": (lambda: nn.Linear(SIZE, 4), features),
    "linear_without_bias": (lambda: nn.Linear(SIZE, 4, bias=False), features),
    "conv1d": (lambda: Conv1D(4, SIZE), features),
    "one_hot": (lambda: OneHotLinear(SIZE, 4), ids),
    "embedding": (lambda: nn.Embedding(SIZE, 4), ids),
    "layer_norm": (lambda: nn.LayerNorm(SIZE), features),
    "layer_norm_without_bias": (lambda: nn.LayerNorm(SIZE, bias=False), features),
    "rms_norm": (lambda: nn.RMSNorm(SIZE), features),
    "t5_norm": (lambda: T5LayerNorm(SIZE, 0.1), features),
    "llama_norm": (lambda: LlamaRMSNorm(SIZE, 0.1), features),
    "lstm": (lambda: nn.LSTM(SIZE, 4, batch_first=True), features),
    "deep_lstm": (
        lambda: nn.LSTM(SIZE, 3, num_layers=2, bidirectional=True, batch_first=True),
        features,
    ),
    "tied": (Tied, features),
}


def draw(module: nn.Module, own: tuple[str, ...], trials: int) -> dict[str, Tensor]:
    for parameter in module.parameters():
        nn.init.normal_(parameter)
        parameter.requires_grad_(False)
    shapes = {name: module.get_parameter(name).shape for name in own}
    return {name: torch.randn(trials, *shapes[name]).requires_grad_() for name in own}


def fold(module: nn.Module, values: dict[str, Tensor]) -> nn.Module:
    """Replace what holds the values, the module itself included."""
    shared = Fold(len(next(iter(values.values()))), BATCH)
    around = nn.Sequential(module)
    replacer = Replacer({id(module.get_parameter(name)): name for name in values}, shared)
    replacer.replace_children(around)
    for stacked, names in replacer.stacked:
        stacked.bind({local: values[name] for local, name in names.items()})
    return around[0]


def output(given: Any) -> Tensor:
    return given if isinstance(given, Tensor) else given[0]


def subsets(names: list[str]) -> list[tuple[str, ...]]:
    return list(chain.from_iterable(combinations(names, n) for n in range(1, len(names) + 1)))


@pytest.mark.parametrize("trials", [1, 3])
@pytest.mark.parametrize("name", MODULES)
def test_any_of_a_modules_parameters_may_be_the_trials_own(name: str, trials: int) -> None:
    make, draw_input = MODULES[name]
    torch.manual_seed(0)
    for own in subsets([name for name, _ in make().named_parameters()])[:20]:
        module = make()
        values, given = draw(module, own, trials), draw_input(trials)
        inputs = [given.requires_grad_()] if given.is_floating_point() else []
        plain = copy.deepcopy(module)
        expected = []
        for trial, part in enumerate(given.unflatten(0, (trials, BATCH))):
            chosen = {name: value[trial] for name, value in values.items()}
            expected.append(output(functional_call(copy.deepcopy(plain), chosen, part)))
        together = torch.cat(expected)
        needed = [*values.values(), *inputs]
        wanted = torch.autograd.grad(together.sin().sum(), needed)
        found = output(fold(module, values)(given))
        close(found.unflatten(0, (trials, BATCH)), together.unflatten(0, (trials, BATCH)))
        gradients = torch.autograd.grad(found.sin().sum(), needed)
        for gradient, expected_gradient in zip(gradients, wanted, strict=True):
            close(gradient, expected_gradient, 1e-2)


def test_every_rule_is_tried() -> None:
    tried = {type(make()) for make, _ in MODULES.values()}
    of_whole_bodies = {kind for kind in RULES if kind.__module__.startswith("fpt_ray")}
    assert RULES.keys() - tried == of_whole_bodies - {OneHotLinear}
    assert Stack in of_whole_bodies


@pytest.mark.parametrize("name", ["layer_norm", "layer_norm_without_bias"])
def test_layer_norms_may_be_computed_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "LOOPED_NUMBERS", 0)
    for trials in (1, 3):
        test_any_of_a_modules_parameters_may_be_the_trials_own(name, trials)


def test_layer_norms_over_several_dimensions_are_computed_one_by_one() -> None:
    torch.manual_seed(0)
    module = nn.LayerNorm((SEQ_LENGTH, SIZE))
    values, given = draw(module, ("weight", "bias"), 3), features(3)
    found = fold(module, values)(given)
    for trial, (weight, bias) in enumerate(zip(values["weight"], values["bias"], strict=True)):
        part = slice(trial * BATCH, (trial + 1) * BATCH)
        expected = nn.functional.layer_norm(given[part], module.normalized_shape, weight, bias)
        assert torch.equal(found[part], expected)


@pytest.mark.parametrize("shape", [(SEQ_LENGTH,), (1, SEQ_LENGTH)])
def test_ids_that_all_sequences_share_give_each_its_trials_rows(shape: tuple[int, ...]) -> None:
    module = nn.Embedding(9, SIZE)
    values = draw(module, ("weight",), 3)
    shared = torch.randint(9, shape)
    found = fold(module, values)(shared)
    expected = values["weight"][:, shared.flatten()]
    assert torch.equal(found.unflatten(0, (3, BATCH)), expected[:, None].expand(3, BATCH, -1, -1))


@pytest.mark.parametrize("trials", [1, 3])
@pytest.mark.parametrize("own", [("scale",), ("scale", "inner.bias"), ("inner.weight", "scale")])
def test_a_module_without_a_rule_is_computed_trial_by_trial(
    own: tuple[str, ...], trials: int
) -> None:
    torch.manual_seed(0)
    module = Scaled()
    values, tokens = draw(module, own, trials), features(trials)
    frozen = {n: p for n, p in module.named_parameters() if n not in own}
    plain = copy.deepcopy(module)
    shared, factor = torch.randn(SEQ_LENGTH, SIZE), torch.randn(trials * BATCH, 1, 1)
    folded = fold(module, values)
    assert isinstance(folded, Looped)
    assert {n: id(p) for n, p in folded.named_parameters()} == {n: id(frozen[n]) for n in frozen}
    found, (cosines, offset) = folded(tokens, shared, factor=factor)
    for trial in range(trials):
        part = slice(trial * BATCH, (trial + 1) * BATCH)
        chosen = {name: value[trial] for name, value in values.items()}
        args = (tokens[part], shared)
        named = {"factor": factor[part]}
        expected, (cosine, _) = functional_call(copy.deepcopy(plain), chosen, args, named)
        torch.testing.assert_close(found[part], expected)
        torch.testing.assert_close(cosines[part], cosine)
    assert offset == folded.offset == 3.0
    found.sum().backward()
    assert all(value.grad is not None for value in values.values())


def test_a_module_without_a_rule_follows_training_and_evaluation() -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(SIZE))
            self.dropout = nn.Dropout(0.5)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.dropout(tokens * self.scale) + self.training

    module, tokens = Dropping(), torch.ones(3 * BATCH, SEQ_LENGTH, SIZE)
    folded = fold(module, {"scale": torch.ones(3, SIZE)})
    assert torch.equal(folded.eval()(tokens), tokens)
    assert set(folded.train()(tokens).unique().tolist()) == {1.0, 3.0}


def test_a_module_in_two_places_is_replaced_once() -> None:
    module = Tied()
    values = draw(module, ("first.weight",), 3)
    folded = fold(module, values)
    assert isinstance(folded.first, Stacked)
    assert folded.first is folded.again
    assert folded.other.weight is folded.first.weight is values["first.weight"]


def test_gpt2s_activation_is_computed_at_once() -> None:
    """Its formula is torch's own; transformers writes it as eight operations."""
    around = nn.Sequential(nn.Linear(SIZE, SIZE), NewGELUActivation())
    Replacer({}, Fold()).replace_children(around)
    hidden = torch.linspace(-9, 9, 1000)
    torch.testing.assert_close(around[1](hidden), NewGELUActivation()(hidden), rtol=1e-6, atol=1e-6)
