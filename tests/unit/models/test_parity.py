"""Our model computes what a plain forward through transformers' computes, and trains as much."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from fpt_ray.config import TrialSettings
from fpt_ray.config.tasks import TASKS
from fpt_ray.models import SequenceModel
from fpt_ray.tasks import TaskSpec, build_task
from fpt_ray.training import describe
from fpt_ray.training.build import build_model

BATCH = 3
RAGGED = ("listops", "remote_homology")


def settings(backbone: str, task: str, **training: Any) -> TrialSettings:
    length = TASKS[task]().seq_length
    model = {
        "backbone": backbone,
        "init": "random",
        "trained": ["all"],
        "extend_positions": length if length > 64 else None,
        "input_layer": "linear" if backbone == "tiny-vit" else "auto",
    }
    return TrialSettings.model_validate(
        {"task": {"name": task}, "model": model, "training": training}
    )


def build(trial: TrialSettings) -> tuple[SequenceModel, TaskSpec]:
    """Build a trial's model with numbers none of which is a family's zero or one."""
    task = build_task(trial)
    model, _ = build_model(trial, 0, task, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) / 20)
    return model.eval(), task.spec


def draw(spec: TaskSpec) -> tuple[Tensor, Tensor]:
    """Draw tokens of a task's shape and the lengths of the sequences, the first one whole."""
    generator = torch.Generator().manual_seed(2)
    lengths = torch.randint(spec.num_read, spec.seq_length + 1, (BATCH,), generator=generator)
    lengths[0] = spec.seq_length
    shape = (BATCH, spec.seq_length)
    if spec.input_kind == "ids":
        return torch.randint(spec.input_size, shape, generator=generator), lengths
    return torch.randn(*shape, spec.input_size, generator=generator), lengths


def embed(tokens: Tensor, weights: dict[str, Tensor], backbone: str) -> Tensor:
    weight = weights["input_layer.0.weight"]
    if tokens.is_floating_point():
        return tokens @ weight.T + weights["input_layer.0.bias"]
    if backbone == "tiny-gpt2":
        return weight[tokens]
    one_hot = torch.eye(weight.shape[1])[tokens]
    return one_hot @ weight.T + weights["input_layer.0.bias"]


def gpt2_forward(weights: dict[str, Tensor], embedded: Tensor) -> Tensor:
    """Read hidden states off transformers' own model."""
    rows = len(weights["wpe.weight"])
    config = hf.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=rows, vocab_size=1)
    plain = hf.GPT2Model(config)
    unloaded, unknown = plain.load_state_dict(weights, strict=False)
    assert (unloaded, unknown) == (["wte.weight"], [])
    return plain.eval()(inputs_embeds=embedded).last_hidden_state


def vit_forward(weights: dict[str, Tensor], embedded: Tensor) -> Tensor:
    """Read hidden states off transformers' own model, entered behind its patches."""
    config = hf.ViTConfig(
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"intermediate_size": 128, "image_size": 8, "patch_size": 8},
    )
    plain = hf.ViTModel(config, add_pooling_layer=False)
    positions = weights.pop("embeddings.position_embeddings")
    unloaded, unknown = plain.load_state_dict(weights, strict=False)
    assert unknown == []
    assert all(name.startswith("embeddings.") for name in unloaded)
    hidden = embedded + positions[:, 1 : 1 + embedded.shape[1]]
    for layer in plain.eval().layers:
        hidden = layer(hidden)
    return plain.layernorm(hidden)


FORWARDS = {"tiny-gpt2": gpt2_forward, "tiny-vit": vit_forward}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("backbone", FORWARDS)
@torch.no_grad()
def test_logits_are_those_of_a_plain_forward(backbone: str, task: str) -> None:
    model, spec = build(settings(backbone, task))
    tokens, lengths = draw(spec)
    if task not in RAGGED:
        lengths[:] = spec.seq_length
    mask = torch.arange(spec.seq_length) < lengths[:, None] if task in RAGGED else None
    ours = model(tokens, mask)
    assert ours.shape == (BATCH, spec.num_read, spec.num_logits)
    weights = {name: value.detach() for name, value in model.named_parameters()}
    inside = {n.removeprefix("backbone."): v for n, v in weights.items() if "backbone." in n}
    for index, length in enumerate(lengths.tolist()):
        embedded = embed(tokens[index : index + 1, :length], weights, backbone)
        hidden = FORWARDS[backbone](dict(inside), embedded)[0, -spec.num_read :]
        theirs = hidden @ weights["output_layer.0.weight"].T + weights["output_layer.0.bias"]
        torch.testing.assert_close(ours[index], theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "layers", "width", "published"),
    [
        ("gpt2", 12, 768, 106_752),
        ("gpt2-medium", 24, 1024, 191_488),
        ("gpt2-large", 36, 1280, 300_800),
    ],
)
def test_trained_counts_differ_from_the_published_ones_by_named_terms(
    backbone: str, layers: int, width: int, published: int
) -> None:
    """Source: Lu et al. 2021 (arXiv:2103.05247), table 8, on CIFAR-10."""
    assert width * (4 * layers + 64 + 16 + 10 + 1) == published
    found = describe(
        TrialSettings.model_validate({"task": {"name": "cifar10"}, "model": {"backbone": backbone}})
    )
    tokens_of_48_numbers = (48 - 16) * width
    final_layer_norm = 2 * width
    output_biases = 10
    rows_of_unused_positions = (1024 - 64) * width
    assert found.trained_parameters == (
        published
        + tokens_of_48_numbers
        + final_layer_norm
        + output_biases
        + rows_of_unused_positions
    )
    assert {group: trained for group, (trained, _) in found.by_group.items() if trained} == {
        "input": 48 * width + width,
        "output": 10 * width + output_biases,
        "positions": 64 * width + rows_of_unused_positions,
        "layer_norm": 4 * layers * width + final_layer_norm,
    }
