"""Small trials on one pretrained backbone, so that those of different seeds share it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from fpt_ray.config import TrialSettings
from fpt_ray.models import BackboneChoice, find_backbone

MakeSettings = Callable[..., TrialSettings]
DATA_DIR = Path(__file__).parents[3] / "data"


@pytest.fixture
def publish(tmp_path: Path) -> Callable[[str], str]:
    """A function that writes a tiny backbone of a family with weights, and gives its folder.

    T5 gets the activation of its version 1.1: at the kink of a ReLU rounding decides about a whole
    gradient, which some CPUs then magnify.
    """

    def write(family: str) -> str:
        place = tmp_path / f"published {family}"
        if not place.exists():
            tiny = find_backbone(BackboneChoice(f"tiny-{family}", "random"))
            if family == "t5":
                tiny.config.feed_forward_proj = tiny.config.dense_act_fn = "gelu_new"
            tiny.config.save_pretrained(place)
            save_file(dict(tiny.weights(1).tensors), place / "model.safetensors")
        return str(place)

    return write


@pytest.fixture
def settings_of(make_settings: MakeSettings, publish: Callable[[str], str]) -> MakeSettings:
    """A function that makes a trial without dropout on a pretrained backbone of a family.

    Adam divides by the size of gradients, which turns the rounding of those that are nearly 0 into
    whole updates; its epsilon is large enough here to leave them small.
    """

    def make(family: str = "gpt2", **values: Any) -> TrialSettings:
        defaults: dict[str, Any] = {
            "model__backbone": publish(family),
            "model__init": "pretrained",
            "training__dropout": 0.0,
            "training__max_steps": 20,
            "training__optimizer": {"epsilon": 1e-4},
            "data__dir": str(DATA_DIR),
        }
        return make_settings(**(defaults | values))

    return make
