"""Weights in every format in which they are published, and what is said when they are damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model

from fpt_ray.errors import ModelError
from fpt_ray.models import Backbone, BackboneChoice, find_backbone

Tensors = dict[str, Tensor]


@pytest.fixture
def bert(tmp_path: Path) -> tuple[Path, Tensors]:
    """A directory with the configuration of a small BERT, and weights that are not yet in it."""
    config = BertConfig(
        vocab_size=11,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=12,
    )
    folder = tmp_path / "bert"
    config.save_pretrained(folder)
    torch.manual_seed(0)
    model = BertModel(config)
    return folder, {name: value.detach().clone() for name, value in model.state_dict().items()}


def load(folder: Path) -> Tensors:
    return find(folder).weights(0).tensors


def find(folder: Path) -> Backbone:
    return find_backbone(BackboneChoice(str(folder)))


def write_single(folder: Path, tensors: Tensors) -> None:
    save_file(tensors, folder / "model.safetensors")


def write_prefixed(folder: Path, tensors: Tensors) -> None:
    save_file({f"bert.{n}": value for n, value in tensors.items()}, folder / "model.safetensors")


def write_legacy_names(folder: Path, tensors: Tensors) -> None:
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for name, value in tensors.items()
    }
    save_file(renamed, folder / "model.safetensors")


def write_sharded(folder: Path, tensors: Tensors) -> None:
    names = sorted(tensors)
    shards = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, folder / shard)
    weight_map = {name: shard for shard, members in shards.items() for name in members}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")


def write_bin(folder: Path, tensors: Tensors) -> None:
    torch.save(tensors, folder / "pytorch_model.bin")


def write_legacy_bin(folder: Path, tensors: Tensors) -> None:
    file = folder / "pytorch_model.bin"
    torch.save(tensors, file, _use_new_zipfile_serialization=False)


def write_double(folder: Path, tensors: Tensors) -> None:
    save_file({n: value.double() for n, value in tensors.items()}, folder / "model.safetensors")


@pytest.mark.parametrize(
    "write",
    [
        write_single,
        write_prefixed,
        write_legacy_names,
        write_sharded,
        write_bin,
        write_legacy_bin,
        write_double,
    ],
)
def test_every_format_gives_the_same_weights(
    bert: tuple[Path, Tensors], write: Callable[[Path, Tensors], None]
) -> None:
    folder, tensors = bert
    write(folder, tensors)
    loaded = load(folder)
    assert "embeddings.word_embeddings.weight" not in loaded
    assert len(loaded) == len([n for n in tensors if "word" not in n and "pooler" not in n])
    for name, value in loaded.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, tensors[name])


def test_the_fingerprint_is_that_of_the_values_not_of_the_files(
    bert: tuple[Path, Tensors], tmp_path: Path
) -> None:
    folder, tensors = bert
    write_single(folder, tensors)
    first = find(folder).fingerprint()
    (folder / "model.safetensors").unlink()
    write_bin(folder, tensors)
    assert find(folder).fingerprint() == first
    tensors["encoder.layer.0.output.dense.bias"] += 1e-3
    (folder / "pytorch_model.bin").unlink()
    write_single(folder, tensors)
    assert find(folder).fingerprint() != first


def test_weights_are_mapped_once_per_process(bert: tuple[Path, Tensors]) -> None:
    folder, tensors = bert
    write_single(folder, tensors)
    assert find(folder).weights(0) is find(folder).weights(1)


def test_other_weights_than_float32_are_converted_once(
    bert: tuple[Path, Tensors], node_cache: Path
) -> None:
    folder, tensors = bert
    write_single(folder, {n: value.to(torch.bfloat16) for n, value in tensors.items()})
    load(folder)
    (converted,) = (node_cache / "weights").glob("converted-*.safetensors")
    written = converted.stat().st_mtime_ns
    load(folder)
    assert converted.stat().st_mtime_ns == written


def test_gpt2_checkpoints_with_a_language_model_head_are_read(tmp_path: Path) -> None:
    config = GPT2Config(
        vocab_size=11,
        n_positions=12,
        n_embd=8,
        n_layer=1,
        n_head=2,
        bos_token_id=None,
        eos_token_id=None,
    )
    config.save_pretrained(tmp_path)
    state = {f"transformer.{n}": v.clone() for n, v in GPT2Model(config).state_dict().items()}
    write_single(tmp_path, {**state, "lm_head.weight": torch.zeros(11, 8)})
    loaded = load(tmp_path)
    assert torch.equal(loaded["h.0.mlp.c_fc.weight"], state["transformer.h.0.mlp.c_fc.weight"])


def test_missing_parameters_are_named(bert: tuple[Path, Tensors]) -> None:
    folder, tensors = bert
    write_single(folder, {name: value for name, value in tensors.items() if "query" not in name})
    with pytest.raises(ModelError) as caught:
        load(folder)
    text = str(caught.value)
    assert text.startswith(f"{folder.resolve()}: lacks 4 of the backbone's parameters:")
    assert "encoder.layer.0.attention.self.query.weight" in text
    assert "fix: download the backbone again, or give another directory" in text


def test_parameters_of_another_shape_are_refused(bert: tuple[Path, Tensors]) -> None:
    folder, tensors = bert
    name = "embeddings.position_embeddings.weight"
    write_single(folder, {**tensors, name: torch.zeros(5, 8)})
    with pytest.raises(ModelError, match=rf"has {name} of shape \(5, 8\), not \(12, 8\)"):
        load(folder)


def test_missing_weights_and_shards_are_told(bert: tuple[Path, Tensors]) -> None:
    folder, tensors = bert
    with pytest.raises(ModelError, match=r"holds none of model\.safetensors, pytorch_model\.bin"):
        load(folder)
    write_sharded(folder, tensors)
    (folder / "b.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks the shard b\.safetensors"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("model.safetensors", "is no readable safetensors file"),
        ("pytorch_model.bin", "is no readable torch checkpoint"),
    ],
)
def test_damaged_files_are_refused(bert: tuple[Path, Tensors], file: str, text: str) -> None:
    folder, _ = bert
    (folder / file).write_bytes(b"nothing at all")
    with pytest.raises(ModelError, match=text):
        load(folder)
