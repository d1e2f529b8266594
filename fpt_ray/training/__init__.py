"""Training: trials as objects that advance, save, resume and test, without Ray."""

from __future__ import annotations

from fpt_ray.training.build import Description, build_trainer, describe, fingerprints
from fpt_ray.training.course import Plan
from fpt_ray.training.pack import Pack, PackedTrial, PackKey, Shelf, TrialFault, prepare_trial
from fpt_ray.training.results import Evaluation, Metric, Slope, TestResult
from fpt_ray.training.steps import Recipe
from fpt_ray.training.trainer import Trainer, train

__all__ = [
    "Description",
    "Evaluation",
    "Metric",
    "Pack",
    "PackKey",
    "PackedTrial",
    "Plan",
    "Recipe",
    "Shelf",
    "Slope",
    "TestResult",
    "Trainer",
    "TrialFault",
    "build_trainer",
    "describe",
    "fingerprints",
    "prepare_trial",
    "train",
]
