"""Models: the frozen pretrained transformer over backbones of several families."""

from __future__ import annotations

from fpt_ray.models.assemble import attention_for, frozen_fingerprint, materialise
from fpt_ray.models.backbone import Backbone, BackboneChoice, find_backbone
from fpt_ray.models.families import FAMILIES, Family
from fpt_ray.models.fpt import FPT, Ends, draw_ends
from fpt_ray.models.roles import backbone_roles, parameter_roles
from fpt_ray.models.sources import PACKAGED

__all__ = [
    "FAMILIES",
    "FPT",
    "PACKAGED",
    "Backbone",
    "BackboneChoice",
    "Ends",
    "Family",
    "attention_for",
    "backbone_roles",
    "draw_ends",
    "find_backbone",
    "frozen_fingerprint",
    "materialise",
    "parameter_roles",
]
