"""What every backbone must do. A new one is one subclass here."""

from __future__ import annotations

import importlib.util
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from transformers import BertModel, GPT2Model

from fpt_ray.config import GROUPS, UNTRAINED, ParameterRole
from fpt_ray.models import (
    FAMILIES,
    PACKAGED,
    Backbone,
    BackboneChoice,
    Ends,
    SequenceModel,
    draw_ends,
    find_backbone,
    frozen_fingerprint,
    materialise,
    parameter_roles,
)

CPU = torch.device("cpu")
ENDS = Ends("features", input_size=3, num_read=2, num_logits=4)
EXPECTED_GROUPS = set(GROUPS) - {"other", "recurrent"}


def build(
    choice: BackboneChoice, seed: int = 0, trained: tuple[str, ...] = ("layer_norm",)
) -> tuple[SequenceModel, Backbone, str]:
    """Build a materialised SequenceModel whose given groups are trained."""
    backbone = find_backbone(choice)
    model = SequenceModel(backbone, ENDS, dropout=0.1)
    roles = parameter_roles(model, backbone)
    names = frozenset(role.name for role in roles if role.group in trained)
    draw_ends(model.input_layer, model.output_layer, 1.41, seed)
    return model, backbone, materialise(model, backbone, names, seed, CPU)


class BackboneContract:
    name: ClassVar[str]
    family: ClassVar[str]
    init: ClassVar[Any] = "random"
    groups: ClassVar[set[str]] = EXPECTED_GROUPS

    def choice(self, **changes: Any) -> BackboneChoice:
        if self.name in PACKAGED and importlib.util.find_spec(PACKAGED[self.name]) is None:
            pytest.skip(f"needs the package {PACKAGED[self.name]}; install fpt-ray[demo]")
        return BackboneChoice(self.name, self.init, **changes)

    def roles(self) -> tuple[ParameterRole, ...]:
        backbone = find_backbone(self.choice(), need_weights=False)
        return parameter_roles(SequenceModel(backbone, ENDS, 0.1), backbone)

    def test_every_parameter_has_exactly_one_role(self) -> None:
        model, _, _ = build(self.choice())
        parameters = dict(model.named_parameters())
        assert sorted(role.name for role in self.roles()) == sorted(parameters)
        assert {role.group for role in self.roles()} == self.groups
        assert all(parameters[role.name].numel() == role.numel for role in self.roles())

    def test_layers_are_numbered_within_the_blocks_only(self) -> None:
        num_layers = find_backbone(self.choice()).config.num_hidden_layers
        by_group = {
            group: {role.layer for role in self.roles() if role.group == group}
            for group in self.groups
        }
        assert by_group["attention"] == by_group["feed_forward"] == set(range(num_layers))
        assert by_group["layer_norm"] == {None, *range(num_layers)}
        assert by_group["input"] == by_group["positions"] == {None}

    def test_forward_equals_the_plain_model(self) -> None:
        model, backbone, _ = build(self.choice())
        tokens = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(1))
        ours = model.eval()(tokens)
        theirs = plain_forward(model, backbone, tokens)
        assert ours.shape == (2, 2, 4)
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)

    def test_frozen_parameters_are_shared_and_trained_ones_are_not(self) -> None:
        models = [build(self.choice())[0] for _ in range(2)]
        first, second = (dict(model.backbone.named_parameters()) for model in models)
        for name, parameter in first.items():
            shared = parameter.data_ptr() == second[name].data_ptr()
            assert shared is not parameter.requires_grad

    def test_the_fingerprint_of_frozen_parameters_notices_a_change(self) -> None:
        model, _, loaded = build(self.choice())
        assert frozen_fingerprint(model) == loaded
        frozen = next(p for p in model.backbone.parameters() if not p.requires_grad)
        # A value of its own: the shared weights must not be written to, here least of all.
        frozen.data = frozen.data.clone()
        frozen.data.view(-1)[0] += 1
        assert frozen_fingerprint(model) != loaded

    def test_gradients_reach_trained_parameters_only(self) -> None:
        model, _, _ = build(self.choice())
        model(torch.randn(2, 7, 3)).sum().backward()
        for parameter in model.parameters():
            assert (parameter.grad is not None) is parameter.requires_grad

    def test_dropout_is_set_everywhere(self) -> None:
        model, _, _ = build(self.choice())
        probabilities = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
        assert probabilities == {0.1}

    def test_the_first_layers_can_be_kept(self) -> None:
        whole, _, _ = build(self.choice())
        first, _, _ = build(self.choice(num_layers=1))
        kept = dict(first.backbone.named_parameters())
        assert 0 < len(kept) < len(dict(whole.backbone.named_parameters()))
        if self.init == "pretrained":
            source = dict(whole.backbone.named_parameters())
            assert all(torch.equal(value, source[name]) for name, value in kept.items())

    def test_positions_can_be_extended(self) -> None:
        num_positions = find_backbone(self.choice()).config.max_position_embeddings
        length = num_positions + 10
        model, backbone, _ = build(self.choice(extend_positions=length))
        table = model.backbone.get_parameter(backbone.family.positions)
        assert len(table) == length
        if self.init == "pretrained":
            assert torch.equal(table[num_positions:], table[:10])
        assert model.eval()(torch.randn(1, length, 3)).isfinite().all()

    def test_the_seed_draws_what_is_random(self) -> None:
        parts = [dict(build(self.choice(), seed)[0].named_parameters()) for seed in (0, 0, 1)]
        same = [name for name in parts[0] if torch.equal(parts[0][name], parts[1][name])]
        assert len(same) == len(parts[0])
        drawn = {n for n in parts[0] if not torch.equal(parts[0][n], parts[2][n])}
        assert {"input_layer.0.weight", "output_layer.0.weight"} <= drawn
        in_backbone = {name for name in drawn if name.startswith("backbone.")}
        assert bool(in_backbone) is (self.init == "random")


class TestTinyGpt2(BackboneContract):
    name = "tiny-gpt2"
    family = "gpt2"


class TestTinyBert(BackboneContract):
    name = "tiny-bert"
    family = "bert"
    groups: ClassVar = EXPECTED_GROUPS | {"other"}


class TestMiniLM(BackboneContract):
    name = "minilm-l6"
    family = "bert"
    init = "pretrained"
    groups: ClassVar = EXPECTED_GROUPS | {"other"}


def test_every_backbone_and_family_has_a_contract() -> None:
    contracts = BackboneContract.__subclasses__()
    assert {contract.name for contract in contracts} == {*PACKAGED, *UNTRAINED}
    assert {contract.family for contract in contracts} == set(FAMILIES)


def plain_forward(model: SequenceModel, backbone: Backbone, tokens: Tensor) -> Tensor:
    """Compute a model's logits with transformers' own class, as a user would by hand."""
    weights = {name: value.detach() for name, value in model.backbone.named_parameters()}
    if backbone.family.name == "gpt2":
        plain = GPT2Model(backbone.config)
    else:
        plain = BertModel(backbone.config, add_pooling_layer=False)
    plain.load_state_dict(weights, strict=False)
    first, last = model.input_layer[0], model.output_layer[0]
    with torch.no_grad():
        embedded = tokens @ first.weight.T + first.bias
        hidden = plain.eval()(inputs_embeds=embedded)[0]
        logits: Tensor = hidden[:, -2:] @ last.weight.T + last.bias
    return logits
