"""The sweep file, typed: read once, checked once, before torch or Ray is imported."""

from __future__ import annotations

from fpt_ray.config.arms import Arm
from fpt_ray.config.backbones import (
    BACKBONE_SHAPES,
    BUILT_IN_SHAPES,
    UNTRAINED,
    BackboneShape,
)
from fpt_ray.config.baseline_checks import input_mistakes, read_mistakes
from fpt_ray.config.data_settings import data_settings
from fpt_ray.config.domains import Choice, Domain, Grid, IntUniform, LogUniform, Uniform
from fpt_ray.config.identity import identity, trial_id
from fpt_ray.config.load import load_sweep
from fpt_ray.config.models import (
    CheckpointInit,
    EndSettings,
    FPTSettings,
    LSTMSettings,
    ModelSettings,
    NoBackboneSettings,
)
from fpt_ray.config.selectors import GROUPS, ParameterRole, parse_selectors, resolve
from fpt_ray.config.settings import (
    DataSettings,
    OptimizerSettings,
    TrainingSettings,
    TrialSettings,
)
from fpt_ray.config.shapes import known_shape
from fpt_ray.config.sweep import Failures, Final, Published, Resources, Sweep
from fpt_ray.config.tasks import BitMemory, BitXor, Mnist, TaskSettings
from fpt_ray.config.tune import (
    AshaScheduler,
    FifoScheduler,
    GridSearcher,
    OptunaSearcher,
    RandomSearcher,
    Tune,
)

__all__ = [
    "BACKBONE_SHAPES",
    "BUILT_IN_SHAPES",
    "GROUPS",
    "UNTRAINED",
    "Arm",
    "AshaScheduler",
    "BackboneShape",
    "BitMemory",
    "BitXor",
    "CheckpointInit",
    "Choice",
    "DataSettings",
    "Domain",
    "EndSettings",
    "FPTSettings",
    "Failures",
    "FifoScheduler",
    "Final",
    "Grid",
    "GridSearcher",
    "IntUniform",
    "LSTMSettings",
    "LogUniform",
    "Mnist",
    "ModelSettings",
    "NoBackboneSettings",
    "OptimizerSettings",
    "OptunaSearcher",
    "ParameterRole",
    "Published",
    "RandomSearcher",
    "Resources",
    "Sweep",
    "TaskSettings",
    "TrainingSettings",
    "TrialSettings",
    "Tune",
    "Uniform",
    "data_settings",
    "identity",
    "input_mistakes",
    "known_shape",
    "load_sweep",
    "parse_selectors",
    "read_mistakes",
    "resolve",
    "trial_id",
]
