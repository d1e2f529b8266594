"""What every backbone must do. A new one is one subclass here."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from fpt_ray.config import BACKBONE_SHAPES, GROUPS, UNTRAINED, ParameterRole, known_shape, resolve
from fpt_ray.errors import ModelError
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
from fpt_ray.models.families.dropout import Dropout

CPU = torch.device("cpu")
ENDS = Ends("features", input_size=3, num_read=2, num_logits=4)
EXPECTED_GROUPS = set(GROUPS) - {"other", "recurrent"}
SMALL = {
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


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
    small: ClassVar[Any]
    """A small configuration of the family, as transformers makes it."""
    published: ClassVar[tuple[tuple[Any, str], ...]]
    """Classes whose checkpoints are read, with the path of the backbone inside them."""

    def choice(self, **changes: Any) -> BackboneChoice:
        if self.name in PACKAGED and importlib.util.find_spec(PACKAGED[self.name]) is None:
            pytest.skip(f"needs the package {PACKAGED[self.name]}; install fpt-ray[demo]")
        return BackboneChoice(self.name, self.init, **changes)

    def roles(self) -> tuple[ParameterRole, ...]:
        backbone = find_backbone(self.choice(), need_weights=False)
        return parameter_roles(SequenceModel(backbone, ENDS, 0.1), backbone)

    def hidden(self, plain: Any, embedded: Tensor) -> Tensor:
        """Compute hidden states with transformers' own class, as a user would by hand."""
        states: Tensor = plain(inputs_embeds=embedded)[0]
        return states

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
        assert by_group["input"] == by_group.get("positions", {None}) == {None}

    def test_the_shape_that_validation_knows_is_that_of_the_model(self) -> None:
        shape, backbone = BACKBONE_SHAPES[self.name], find_backbone(self.choice())
        known = {(role.group, role.layer) for role in shape.roles()}
        assert known == {(role.group, role.layer) for role in self.roles()}
        assert (shape.family, shape.takes_ids) == (self.family, backbone.family.takes_ids)
        assert (shape.num_positions, shape.hidden_size) == (
            backbone.num_positions,
            backbone.hidden_size,
        )

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

    def test_every_parameter_is_used(self) -> None:
        model, _, _ = build(self.choice(), trained=tuple(GROUPS))
        model(torch.randn(2, 7, 3)).sum().backward()
        assert [n for n, parameter in model.named_parameters() if parameter.grad is None] == []

    def test_dropout_is_set_everywhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, backbone, _ = build(self.choice())
        seen, drop = [], nn.functional.dropout

        def spy(values: Tensor, p: float = 0.5, training: bool = True, *more: Any) -> Tensor:
            seen.append((p, training))
            return drop(values, p, training, *more)

        def spy_on_module(module: Dropout, values: Tensor) -> Tensor:
            seen.append((module.p, module.training))
            return values

        monkeypatch.setattr(nn.functional, "dropout", spy)
        monkeypatch.setattr(Dropout, "forward", spy_on_module)
        model.train()(torch.randn(2, 7, 3))
        assert set(seen) == {(0.1, True)}
        # Once at the input, and in each block's attention at least.
        assert len(seen) > backbone.config.num_hidden_layers

    def test_without_dropout_training_and_evaluation_agree(self) -> None:
        backbone = find_backbone(self.choice())
        model = SequenceModel(backbone, ENDS, dropout=0.0)
        draw_ends(model.input_layer, model.output_layer, 1.41, 0)
        materialise(model, backbone, frozenset(), 0, CPU)
        tokens = torch.randn(2, 7, 3)
        torch.testing.assert_close(model.train()(tokens), model.eval()(tokens))

    def test_the_first_layers_can_be_kept(self) -> None:
        whole, _, _ = build(self.choice())
        first, _, _ = build(self.choice(num_layers=1))
        kept = dict(first.backbone.named_parameters())
        assert 0 < len(kept) < len(dict(whole.backbone.named_parameters()))
        assert first.eval()(torch.randn(1, 5, 3)).isfinite().all()
        if self.init == "pretrained":
            source = dict(whole.backbone.named_parameters())
            assert all(torch.equal(value, source[name]) for name, value in kept.items())

    def test_positions_can_be_extended(self) -> None:
        num_positions = find_backbone(self.choice()).num_positions
        if num_positions is None:
            with pytest.raises(ModelError, match="has no position table that could be extended"):
                build(self.choice(extend_positions=200))
            return
        length = num_positions + 10
        model, backbone, _ = build(self.choice(extend_positions=length))
        assert backbone.num_positions == length
        table = model.backbone.get_parameter(backbone.family.positions).view(-1, 8)
        reserved = backbone.family.reserved_rows(backbone.config)
        assert len(table) == (length + reserved) * backbone.hidden_size // 8
        assert model.eval()(torch.randn(1, length, 3)).isfinite().all()

    def test_an_extended_table_repeats_the_published_one(self) -> None:
        published, grown = find_backbone(self.choice()), None
        family, tensors = published.family, published.weights(0).tensors
        if family.positions is None:
            assert published.fit(tensors) == tensors
            return
        length = published.num_positions or 0
        resized = family.resized(published.config, None, 2 * length + 3)
        grown = family.fit(tensors, resized)[family.positions].flatten(0, -2)
        table, first = tensors[family.positions].flatten(0, -2), family.reserved_rows(resized)
        assert torch.equal(grown[: first + length], table)
        assert torch.equal(grown[first + length : first + 2 * length], table[first:])
        assert torch.equal(grown[first + 2 * length :], table[first : first + 3])

    def test_the_longest_sequence_is_taken(self) -> None:
        model, backbone, _ = build(self.choice())
        length = backbone.num_positions or 300
        assert model.eval()(torch.randn(1, length, 3)).isfinite().all()

    def test_the_seed_draws_what_is_random(self) -> None:
        parts = [dict(build(self.choice(), seed)[0].named_parameters()) for seed in (0, 0, 1)]
        same = [name for name in parts[0] if torch.equal(parts[0][name], parts[1][name])]
        assert len(same) == len(parts[0])
        drawn = {n for n in parts[0] if not torch.equal(parts[0][n], parts[2][n])}
        assert {"input_layer.0.weight", "output_layer.0.weight"} <= drawn
        in_backbone = {name for name in drawn if name.startswith("backbone.")}
        assert bool(in_backbone) is (self.init == "random")

    def test_random_weights_follow_the_familys_own_initialisation(self) -> None:
        backbone = find_backbone(BackboneChoice(self.name, "random"))
        drawn, deviations = backbone.weights(0).tensors, {}
        torch.manual_seed(0)
        plain = self.rename(self.transformers_model(backbone.config).state_dict())
        for name, value in drawn.items():
            deviations[name] = (float(value.std()), float(plain[name][: len(value)].std()))
        assert all(ours == pytest.approx(theirs, rel=0.3) for ours, theirs in deviations.values())

    def transformers_model(self, config: Any) -> Any:
        return self.published[0][0](config)

    def rename(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        family = FAMILIES[self.family]
        return {family.parameter_name(name): value for name, value in state.items()}

    @pytest.mark.parametrize("index", [0, 1], ids=["bare", "with_a_head"])
    @pytest.mark.parametrize("length", [7, 32])
    def test_a_published_checkpoint_gives_its_hidden_states(
        self, tmp_path: Path, index: int, length: int
    ) -> None:
        made, path = self.published[index]
        torch.manual_seed(3)
        plain = made(self.small)
        with torch.no_grad():
            for parameter in plain.parameters():
                parameter.add_(torch.randn_like(parameter) / 10)
        plain.save_pretrained(tmp_path)
        backbone = find_backbone(BackboneChoice(str(tmp_path)))
        module = backbone.blueprint("eager")
        module.load_state_dict(dict(backbone.weights(0).tensors), assign=True)
        embedded = torch.randn(2, length, 8)
        with torch.no_grad():
            expected = self.hidden(plain.eval().get_submodule(path), embedded)
            found = backbone.run(module.eval(), embedded, None)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


class TestTinyGpt2(BackboneContract):
    name = "tiny-gpt2"
    family = "gpt2"
    small: ClassVar = hf.GPT2Config(
        **{"vocab_size": 11, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32},
        bos_token_id=None,
        eos_token_id=None,
    )
    published = ((hf.GPT2Model, ""), (hf.GPT2LMHeadModel, "transformer"))


class TestTinyBert(BackboneContract):
    name = "tiny-bert"
    family = "bert"
    groups: ClassVar = EXPECTED_GROUPS | {"other"}
    small: ClassVar = hf.BertConfig(**SMALL, max_position_embeddings=32)
    published = ((hf.BertModel, ""), (hf.BertForMaskedLM, "bert"))


class TestMiniLM(TestTinyBert):
    name = "minilm-l6"
    init = "pretrained"


class TestTinyRoberta(BackboneContract):
    name = "tiny-roberta"
    family = "roberta"
    groups: ClassVar = EXPECTED_GROUPS | {"other"}
    small: ClassVar = hf.RobertaConfig(**SMALL, max_position_embeddings=34)
    published = ((hf.RobertaModel, ""), (hf.RobertaForMaskedLM, "roberta"))


class TestTinyDistilBert(BackboneContract):
    name = "tiny-distilbert"
    family = "distilbert"
    small: ClassVar = hf.DistilBertConfig(
        **{"vocab_size": 11, "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16},
        max_position_embeddings=32,
    )
    published = ((hf.DistilBertModel, ""), (hf.DistilBertForMaskedLM, "distilbert"))


class TestTinyT5(BackboneContract):
    name = "tiny-t5"
    family = "t5"
    small: ClassVar = hf.T5Config(
        **{"vocab_size": 11, "d_model": 8, "d_kv": 6, "d_ff": 16, "num_layers": 2, "num_heads": 2},
        feed_forward_proj="gated-gelu",
    )
    published = ((hf.T5EncoderModel, "encoder"), (hf.T5ForConditionalGeneration, "encoder"))


class TestTinyLongformer(BackboneContract):
    name = "tiny-longformer"
    family = "longformer"
    groups: ClassVar = EXPECTED_GROUPS | {"other"}
    small: ClassVar = hf.LongformerConfig(
        **SMALL, max_position_embeddings=34, attention_window=[4, 8]
    )
    published = ((hf.LongformerModel, ""), (hf.LongformerForMaskedLM, "longformer"))


class TestTinyVit(BackboneContract):
    name = "tiny-vit"
    family = "vit"
    small: ClassVar = hf.ViTConfig(
        **{key: value for key, value in SMALL.items() if key != "vocab_size"},
        image_size=(16, 8),
        patch_size=2,
    )
    published = ((hf.ViTModel, ""), (hf.ViTForImageClassification, "vit"))

    def hidden(self, plain: hf.ViTModel, embedded: Tensor) -> Tensor:
        """Run the blocks behind the patches, each token at its patch's position."""
        hidden = embedded + plain.embeddings.position_embeddings[:, 1 : 1 + embedded.shape[1]]
        for layer in plain.layers:
            hidden = layer(hidden)
        return plain.layernorm(hidden)

    @pytest.mark.parametrize("prefix", ["", "vit."])
    def test_names_from_before_transformers_5_are_read(self, prefix: str) -> None:
        family = FAMILIES["vit"]
        old = {
            "encoder.layer.3.attention.attention.query.weight": "attention.q_proj.weight",
            "encoder.layer.3.attention.attention.value.bias": "attention.v_proj.bias",
            "encoder.layer.3.attention.output.dense.weight": "attention.o_proj.weight",
            "encoder.layer.3.intermediate.dense.weight": "mlp.fc1.weight",
            "encoder.layer.3.output.dense.bias": "mlp.fc2.bias",
            "encoder.layer.3.layernorm_before.weight": "layernorm_before.weight",
        }
        for name, new in old.items():
            assert family.parameter_name(prefix + name) == f"layers.3.{new}"
            assert family.parameter_name(f"{prefix}layers.3.{new}") == f"layers.3.{new}"
        assert family.parameter_name(f"{prefix}layernorm.weight") == "layernorm.weight"


class TestTinyLlama(BackboneContract):
    name = "tiny-llama"
    family = "llama"
    groups: ClassVar = EXPECTED_GROUPS - {"positions"}
    small: ClassVar = hf.LlamaConfig(
        **SMALL,
        num_key_value_heads=1,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )
    published = ((hf.LlamaModel, ""), (hf.LlamaForCausalLM, "model"))


def every_contract(base: type[BackboneContract] = BackboneContract) -> set[type[BackboneContract]]:
    below = base.__subclasses__()
    return set(below).union(*(every_contract(contract) for contract in below))


def test_every_backbone_and_family_has_a_contract() -> None:
    contracts = every_contract()
    assert {contract.name for contract in contracts} == {*PACKAGED, *UNTRAINED}
    assert {contract.family for contract in contracts} == set(FAMILIES)


def test_identities_of_backbones_stay_what_they_were() -> None:
    names = ("tiny-gpt2", "tiny-bert", "gpt2", "bert-base-cased")
    found = [find_backbone(BackboneChoice(name, "random")).fingerprint() for name in names]
    assert found == [
        *("2a86902ff1e5c9f6", "bbeeeb7d1065f641"),
        *("46c0e66bc9ed1dbe", "c337a8433024882d"),
    ]


def test_positions_that_are_no_parameters_are_told() -> None:
    roles = BACKBONE_SHAPES["tiny-llama"].roles()
    with pytest.raises(ModelError) as caught:
        resolve(["input", "positions"], roles)
    assert "selector 'positions' matches nothing" in str(caught.value)
    assert "fix: leave positions out: this model has no table of them" in str(caught.value)
    assert "groups are input, output, layer_norm, attention, feed_forward" in str(caught.value)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_config_without_numbers_has_the_shape_of_transformers_default(
    tmp_path: Path, family: Any
) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": "{family.name}"}}', encoding="utf-8")
    shape, config = known_shape(str(tmp_path)), family.config()
    assert shape is not None
    assert (shape.family, shape.num_layers) == (family.name, family.num_layers(config))
    assert (shape.hidden_size, shape.num_heads) == (config.hidden_size, config.num_attention_heads)
    assert shape.num_positions == family.num_positions(config)
    assert shape.vocab_size == getattr(config, "vocab_size", 0)


@pytest.mark.parametrize("name", [name for name in BACKBONE_SHAPES if name not in PACKAGED])
def test_the_shapes_of_the_table_make_configurations_of_these_shapes(name: str) -> None:
    shape, backbone = BACKBONE_SHAPES[name], find_backbone(BackboneChoice(name, "random"))
    assert backbone.family.name == shape.family
    assert backbone.family.num_layers(backbone.config) == shape.num_layers
    assert (backbone.hidden_size, backbone.num_positions) == (
        shape.hidden_size,
        shape.num_positions,
    )
