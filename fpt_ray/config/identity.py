"""The identity of a trial: the same computation has the same name, wherever it runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fpt_ray.config.models import CheckpointInit, FPTSettings
from fpt_ray.config.settings import TrialSettings


def identity(settings: TrialSettings) -> dict[str, Any]:
    """Reduce settings to what decides a trial's evaluations up to any step, weights and data aside.

    Left out are max_steps (a longer trial is the same trial), the data's place and mode, the
    backbone's name and a checkpoint's place (fingerprints stand for them), and fields at their
    default (so that a new field orphans no results).
    """
    data = settings.compact()
    data.pop("data", None)
    data["model"].pop("backbone", None)
    if isinstance(settings.model, FPTSettings) and isinstance(settings.model.init, CheckpointInit):
        data["model"]["init"] = "checkpoint"
    # A list of selectors means their union, whatever its order.
    data["model"].pop("trained", None)
    default = type(settings.model).model_fields["trained"].default
    if set(settings.model.trained) != set(default):
        data["model"]["trained"] = sorted(set(settings.model.trained))
    data.get("training", {}).pop("max_steps", None)
    return {section: fields for section, fields in data.items() if fields}


def trial_id(settings: TrialSettings, seed: int, fingerprints: Mapping[str, str]) -> str:
    """Name a trial by what it computes.

    Args:
        settings: the arm's settings with the tuned values.
        seed: the trial's seed.
        fingerprints: of the backbone's weights and of the data, by name.

    Returns:
        12 hexadecimal characters.
    """
    content = {"settings": identity(settings), "seed": seed, "fingerprints": dict(fingerprints)}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
