"""The shipped sweep files made small: tiny backbones of the same families, little data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from fpt_ray.config import CheckpointInit, FPTSettings, LSTMSettings, TrialSettings, known_shape
from fpt_ray.models import BackboneChoice, find_backbone

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "sweeps").rglob("*.yaml"))
FAMILIES = ("gpt2", "bert", "t5", "longformer", "vit")
TINY_LAYERS = 2

SMALL_TASKS: dict[str, dict[str, Any]] = {
    "bit_memory": {"patterns": 2, "length": 40, "token_bits": 10},
    "listops": {"max_length": 24, "min_length": 6, "max_depth": 4, "train_size": 60},
    "cifar10_lra": {"patch_size": 4},
    "remote_homology": {"max_length": 32},
}
SMALL_TRAINING = {
    "batch_size": 4,
    "max_steps": 3,
    "eval_every": 3,
    "validation_size": 8,
    "test_size": 8,
}


def write_tiny_backbones(folder: Path) -> dict[str, Path]:
    """Write a directory with weights for each family, as hub models have them."""
    places = {family: folder / f"tiny {family}" for family in FAMILIES}
    for family, place in places.items():
        tiny = find_backbone(BackboneChoice(f"tiny-{family}", "random"))
        tiny.config.save_pretrained(place)
        save_file(dict(tiny.weights(1).tensors), place / "model.safetensors")
    return places


def shrunk(settings: TrialSettings, tiny: dict[str, Path]) -> TrialSettings:
    """Copy an arm's settings with a tiny model, little data and three steps."""
    task = {"name": settings.task.name, **SMALL_TASKS.get(settings.task.name, {})}
    changes = {f"training.{key}": value for key, value in SMALL_TRAINING.items()}
    data = {"data.dir": str(ROOT / "tests" / "data")}
    return settings.with_values({"task": task, **changes, **data, **_tiny_model(settings, tiny)})


def _tiny_model(settings: TrialSettings, tiny: dict[str, Path]) -> dict[str, Any]:
    model = settings.model
    if not isinstance(model, FPTSettings):
        narrow: dict[str, Any] = {"model.hidden_size": 16}
        return narrow | ({"model.num_layers": 2} if isinstance(model, LSTMSettings) else {})
    shape = known_shape(model.backbone)
    assert shape
    changes: dict[str, Any] = {"model.backbone": str(tiny[shape.family])}
    if model.num_layers is not None:
        changes["model.num_layers"] = min(model.num_layers, TINY_LAYERS)
    if isinstance(model.init, CheckpointInit):
        # That one sweep starts from another's winner is tested with both of them.
        changes["model.init"] = "pretrained"
    return changes
