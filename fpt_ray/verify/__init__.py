"""Whether trials train in packs as they do alone, seen on sampled trials of a sweep."""

from __future__ import annotations

from fpt_ray.verify.check import NUM_STEPS, TOLERANCE, verify_packs
from fpt_ray.verify.differences import MEASURES, Difference, Differences, compare
from fpt_ray.verify.result import Checked, CheckedPack, Verification
from fpt_ray.verify.sample import Sample, sample_trials, spread

__all__ = [
    "MEASURES",
    "NUM_STEPS",
    "TOLERANCE",
    "Checked",
    "CheckedPack",
    "Difference",
    "Differences",
    "Sample",
    "Verification",
    "compare",
    "sample_trials",
    "spread",
    "verify_packs",
]
