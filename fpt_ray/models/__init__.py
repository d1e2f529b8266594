"""Models: sequence models over backbones of several families, and their baselines."""

from __future__ import annotations

from fpt_ray.models.assemble import (
    attention_for,
    combine_digests,
    frozen_fingerprint,
    materialise,
)
from fpt_ray.models.backbone import Backbone, BackboneChoice, find_backbone
from fpt_ray.models.body import Body
from fpt_ray.models.ends import Ends, draw_ends
from fpt_ray.models.families import FAMILIES, Family
from fpt_ray.models.folding import Folded
from fpt_ray.models.lstm import LSTMBody
from fpt_ray.models.no_backbone import NoBackbone
from fpt_ray.models.roles import backbone_roles
from fpt_ray.models.sequence_model import SequenceModel, parameter_roles
from fpt_ray.models.sources import PACKAGED

__all__ = [
    "FAMILIES",
    "PACKAGED",
    "Backbone",
    "BackboneChoice",
    "Body",
    "Ends",
    "Family",
    "Folded",
    "LSTMBody",
    "NoBackbone",
    "SequenceModel",
    "attention_for",
    "backbone_roles",
    "combine_digests",
    "draw_ends",
    "find_backbone",
    "frozen_fingerprint",
    "materialise",
    "parameter_roles",
]
