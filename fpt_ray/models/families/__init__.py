"""The families of transformers that can be a backbone, and the role of each of their modules."""

from __future__ import annotations

from fpt_ray.models.families.base import Family
from fpt_ray.models.families.bert import Bert
from fpt_ray.models.families.distilbert import DistilBert
from fpt_ray.models.families.dropout import set_dropout
from fpt_ray.models.families.gpt2 import Gpt2
from fpt_ray.models.families.llama import Llama
from fpt_ray.models.families.longformer import Longformer
from fpt_ray.models.families.roberta import Roberta
from fpt_ray.models.families.t5 import T5
from fpt_ray.models.families.vit import Vit

_EVERY_FAMILY = (Gpt2, Bert, Roberta, DistilBert, T5, Longformer, Vit, Llama)

FAMILIES: dict[str, Family] = {family.name: family() for family in _EVERY_FAMILY}
"""Every family by its ``model_type``."""

__all__ = ["FAMILIES", "Family", "set_dropout"]
