"""A sweep from start to end: checks, run directory, Ray, and going on after whatever happened."""

from fpt_ray.orchestrate.run import Options, run_sweep

__all__ = ["Options", "run_sweep"]
