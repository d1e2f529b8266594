"""What keeps two trials out of one pack, as far as settings tell."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from fpt_ray.config.models import CheckpointInit, FPTSettings
from fpt_ray.config.settings import TrialSettings

# Each trial of a pack has its own of these, and trains its own choice of the small groups.
_OWN_OF_TRAINING = ("learning_rate", "grad_clip_norm", "max_steps", "eval_every")
_OWN_OF_MODEL = ("orthogonal_gain", "trained", "init")
_SMALL_GROUPS = ("input", "output", "positions", "layer_norm")


def pack_group(settings: TrialSettings, seed: int) -> str:
    """Name the group of trials among which a trial may find others to share a pack with.

    Trials of one group mostly can, those of two groups mostly cannot. It is a guess to place
    trials by: the engine, which sees the weights themselves, decides.

    Args:
        settings: the trial's.
        seed: the trial's; it counts where the frozen weights are drawn from it.

    Returns:
        12 hexadecimal characters.
    """
    content = settings.model_dump(mode="json")
    for name in _OWN_OF_TRAINING:
        del content["training"][name]
    for name in _OWN_OF_MODEL:
        content["model"].pop(name, None)
    trained = settings.model.trained
    content["trained"] = sorted(selector for selector in trained if _is_large(selector))
    content["weights"] = None if "all" in trained else _weights(settings, seed)
    canonical = json.dumps(content, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _is_large(selector: str) -> bool:
    """Tell whether a selector trains what the trials of a pack otherwise have in common."""
    first = selector.split("-")[0].split("[")[0].strip()
    return first not in _SMALL_GROUPS


def _weights(settings: TrialSettings, seed: int) -> Any:
    """Say where the frozen weights come from."""
    if not isinstance(settings.model, FPTSettings):
        return seed
    init = settings.model.init
    if isinstance(init, CheckpointInit):
        return init.checkpoint
    return init if init == "pretrained" else [init, seed]
