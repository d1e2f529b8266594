"""What a sweep will cost: parameters, trials, steps, operations and device-hours."""

from __future__ import annotations

from fpt_ray.plan.arms import ArmPlan, Plan, plan_sweep
from fpt_ray.plan.machine import Machine, measure
from fpt_ray.plan.operations import Operations, count_operations
from fpt_ray.plan.steps import rungs_of

__all__ = [
    "ArmPlan",
    "Machine",
    "Operations",
    "Plan",
    "count_operations",
    "measure",
    "plan_sweep",
    "rungs_of",
]
