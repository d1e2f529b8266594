"""The families of transformers that can be a backbone, and the role of each of their modules."""

from __future__ import annotations

from fpt_ray.models.families.base import Family
from fpt_ray.models.families.bert import BERT
from fpt_ray.models.families.gpt2 import GPT2

FAMILIES: dict[str, Family] = {family.name: family for family in (GPT2, BERT)}
"""Every family by its ``model_type``."""

__all__ = ["FAMILIES", "Family"]
