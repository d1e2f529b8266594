"""Shapes of backbones are known without torch."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fpt_ray.config import BACKBONE_SHAPES, BackboneShape, known_shape
from fpt_ray.errors import ModelError

GPT2_CONFIG = {"model_type": "gpt2", "n_layer": 3, "n_embd": 48, "n_head": 4, "n_positions": 99}


def write_config(folder: Path, fields: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")


@pytest.mark.parametrize(
    ("backbone", "layers", "hidden"),
    [
        ("gpt2", 12, 768),
        ("openai-community/gpt2-xl", 48, 1600),
        ("distilbert/distilgpt2", 6, 768),
        ("google-bert/bert-large-cased", 24, 1024),
        ("minilm-l6", 6, 384),
        ("tiny-bert", 2, 32),
        ("FacebookAI/roberta-large", 24, 1024),
        ("distilbert-base-uncased", 6, 768),
        ("google-t5/t5-small", 6, 512),
        ("allenai/longformer-base-4096", 12, 768),
        ("google/vit-large-patch16-224", 24, 1024),
        ("HuggingFaceTB/SmolLM2-135M", 30, 576),
    ],
)
def test_families_are_in_the_table(backbone, layers, hidden):
    shape = known_shape(backbone)
    assert shape is not None
    assert (shape.num_layers, shape.hidden_size) == (layers, hidden)


def test_heads_divide_the_width():
    assert all(shape.hidden_size % shape.num_heads == 0 for shape in BACKBONE_SHAPES.values())


def test_a_local_directory_is_read(tmp_path: Path):
    write_config(tmp_path, GPT2_CONFIG)
    assert known_shape(str(tmp_path)) == BackboneShape("gpt2", 3, 48, 4, 99, 50257, 192)


def test_defaults_of_a_short_config_are_the_familys(tmp_path: Path):
    write_config(tmp_path, {"model_type": "bert", "num_hidden_layers": 3})
    assert known_shape(str(tmp_path)) == BackboneShape("bert", 3, 768, 12, 512, 30522, 3072)


@pytest.mark.parametrize(
    ("config", "num_positions"),
    [
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "longformer", "max_position_embeddings": 4098}, 4096),
        ({"model_type": "distilbert", "max_position_embeddings": 99}, 99),
        ({"model_type": "vit", "image_size": [64, 32], "patch_size": 8}, 32),
        ({"model_type": "t5", "n_positions": 512}, None),
        ({"model_type": "llama", "max_position_embeddings": 2048}, None),
    ],
)
def test_the_longest_sequence_is_counted_without_reserved_rows(tmp_path, config, num_positions):
    write_config(tmp_path, config)
    shape = known_shape(str(tmp_path))
    assert shape is not None
    assert shape.num_positions == num_positions


def test_the_newest_snapshot_of_the_hubs_cache_is_read(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshots = tmp_path / "models--owner--name" / "snapshots"
    write_config(snapshots / "b", GPT2_CONFIG | {"n_layer": 1})
    write_config(snapshots / "a", GPT2_CONFIG)
    os.utime(snapshots / "b" / "config.json", (0, 0))
    shape = known_shape("owner/name")
    assert shape is not None
    assert shape.num_layers == 3


def test_other_architectures_and_uncached_models_are_unknown(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    write_config(tmp_path / "mamba", {"model_type": "mamba"})
    assert known_shape(str(tmp_path / "mamba")) is None
    assert known_shape("owner/name") is None


@pytest.mark.parametrize("backbone", ["gtp2", "/no/such/place", "./place", "a/b/c", "~/place"])
def test_what_can_be_no_backbone_is_refused(backbone):
    with pytest.raises(ModelError, match="there is no backbone"):
        known_shape(backbone)


def test_a_misspelled_name_is_answered_with_the_nearest():
    with pytest.raises(ModelError, match="fix: gpt2; or a built-in name"):
        known_shape("gtp2")


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
def test_a_directory_without_a_readable_config_is_refused(tmp_path: Path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"config.json cannot be read: (.|\n)*fix: name the dir"):
        known_shape(str(tmp_path))
