"""What a run directory says, typed: trials with their status, and each arm's winner."""

from fpt_ray.records.sweep import ArmRecord, SweepRecord, load_sweep_record
from fpt_ray.records.trial import Decision, EvaluationRecord, Stage, Status, TrialRecord

__all__ = [
    "ArmRecord",
    "Decision",
    "EvaluationRecord",
    "Stage",
    "Status",
    "SweepRecord",
    "TrialRecord",
    "load_sweep_record",
]
