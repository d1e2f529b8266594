"""Many trials as one batch: their sequences go through the frozen modules together."""

from __future__ import annotations

from fpt_ray.models.folding.folded import Folded

__all__ = ["Folded"]
