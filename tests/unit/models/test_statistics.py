"""Backbones drawn with the statistics of pretrained tensors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertModel

from fpt_ray.errors import ModelError
from fpt_ray.models import Backbone, BackboneChoice, find_backbone
from fpt_ray.node_cache import CACHE_VARIABLE

ROOT = Path(__file__).parents[3]
BIAS = "encoder.layer.1.output.dense.bias"
CONSTANT = "encoder.layer.0.output.LayerNorm.weight"
POSITIONS = "embeddings.position_embeddings.weight"

Find = Callable[..., Backbone]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small BERT whose tensors all have moments of their own; one norm is the constant 0.3."""
    config = BertConfig(
        vocab_size=11,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
    )
    place = tmp_path / "bert"
    config.save_pretrained(place)
    generator = torch.Generator().manual_seed(5)
    tensors = {
        name: torch.randn(value.shape, generator=generator) * (0.1 + index % 5) + index - 20
        for index, (name, value) in enumerate(BertModel(config).state_dict().items())
    }
    tensors[CONSTANT] = torch.full((16,), 0.3)
    save_file(tensors, place / "model.safetensors")
    return place


@pytest.fixture
def find(folder: Path) -> Find:
    """A function from an init and changes to the small BERT with them."""

    def find_it(init: str = "statistics", **changes: int) -> Backbone:
        return find_backbone(BackboneChoice(str(folder), init, **changes))

    return find_it


def draw(backbone: Backbone, seed: int = 0) -> dict[str, Tensor]:
    return backbone.weights(seed).tensors


def test_each_tensor_has_the_moments_of_its_pretrained_one(find: Find) -> None:
    published, drawn = draw(find("pretrained")), draw(find())
    assert drawn.keys() == published.keys()
    for name, value in drawn.items():
        assert (value.dtype, value.shape) == (torch.float32, published[name].shape)
        count = value.numel()
        (deviation, mean), (expected, expected_mean) = (
            torch.std_mean(tensor.double(), correction=0) for tensor in (value, published[name])
        )
        assert abs(mean - expected_mean) <= 5 * expected / count**0.5 + 1e-7
        assert abs(deviation - expected) <= 5 * expected / (2 * count) ** 0.5 + 1e-7
        assert name == CONSTANT or not torch.equal(value, published[name])


def test_a_constant_tensor_stays_constant_to_the_bit(find: Find) -> None:
    assert torch.equal(draw(find())[CONSTANT], torch.full((16,), 0.3))


def test_no_two_tensors_share_a_stream(find: Find) -> None:
    drawn = draw(find())
    standard = [
        ((value - value.mean()) / value.std()).flatten()[:16]
        for name, value in drawn.items()
        if name != CONSTANT
    ]
    closest = [
        (one - other).abs().max() for i, one in enumerate(standard) for other in standard[:i]
    ]
    assert min(closest) > 0.1


def test_the_seed_draws_the_weights(find: Find) -> None:
    first, again, other = draw(find()), draw(find()), draw(find(), seed=1)
    assert torch.equal(first[BIAS], again[BIAS])
    assert not torch.equal(first[BIAS], other[BIAS])


def test_what_is_drawn_for_one_tensor_does_not_depend_on_the_others(find: Find) -> None:
    whole, part = draw(find()), draw(find(num_layers=1))
    assert {name for name in whole if "layer.1." in name} == whole.keys() - part.keys()
    assert all(torch.equal(value, whole[name]) for name, value in part.items())


def test_added_positions_are_drawn_and_not_repeated(find: Find) -> None:
    backbone = find(extend_positions=24)
    table = backbone.fit(draw(backbone))[POSITIONS]
    assert table.shape == (24, 16)
    assert not torch.equal(table[:12], table[12:])


def test_the_fingerprint_is_the_pretrained_one_with_a_name(find: Find) -> None:
    pretrained = find("pretrained").fingerprint()
    assert find().fingerprint() == f"{pretrained}-statistics"
    assert find(num_layers=1).fingerprint() == f"{pretrained}-statistics"


def test_weights_are_written_once_for_each_seed(find: Find, node_cache: Path) -> None:
    for seed in (0, 1, 0):
        draw(find(), seed)
    assert len(list((node_cache / "weights").glob("statistics-*.safetensors"))) == 2


def test_two_processes_draw_the_same(find: Find, folder: Path, tmp_path: Path) -> None:
    program = (
        "import sys, torch; from fpt_ray.models import BackboneChoice, find_backbone;"
        "torch.set_num_threads(3);"
        "choice = BackboneChoice(sys.argv[1], 'statistics');"
        "print(find_backbone(choice).weights(7).fingerprint())"
    )
    other_cache = {CACHE_VARIABLE: str(tmp_path / "another cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env=os.environ | other_cache,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == find().weights(7).fingerprint()


def test_without_pretrained_weights_there_are_no_statistics(folder: Path) -> None:
    with pytest.raises(ModelError, match="tiny-gpt2 has no pretrained weights"):
        find_backbone(BackboneChoice("tiny-gpt2", "statistics"))
    (folder / "model.safetensors").unlink()
    backbone = find_backbone(BackboneChoice(str(folder), "statistics"))
    for read in (backbone.fingerprint, lambda: backbone.weights(0)):
        with pytest.raises(ModelError, match="holds none of"):
            read()


def test_shapes_are_known_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    choice = BackboneChoice(str(folder), "statistics")
    assert find_backbone(choice, need_weights=False).hidden_size == 16
