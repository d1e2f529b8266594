"""Packs: several trials that train together on one copy of what is frozen."""

from __future__ import annotations

from fpt_ray.training.pack.key import PackKey
from fpt_ray.training.pack.pack import Pack
from fpt_ray.training.pack.prepare import prepare_trial
from fpt_ray.training.pack.shelf import Shelf
from fpt_ray.training.pack.trial import PackedTrial, TrialFault

__all__ = ["Pack", "PackKey", "PackedTrial", "Shelf", "TrialFault", "prepare_trial"]
