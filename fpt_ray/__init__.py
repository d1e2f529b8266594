"""Fair ablations of frozen pretrained transformers on Ray."""

from __future__ import annotations

from fpt_ray.errors import FptRayError

__all__ = ["FptRayError", "__version__"]

__version__ = "0.1.0"
