"""What a run directory says, typed: trials with their status, winners, and attention maps."""

from fpt_ray.records.attention import AttentionMaps, Segment
from fpt_ray.records.sweep import ArmRecord, SweepRecord, load_sweep_record
from fpt_ray.records.trial import Decision, EvaluationRecord, Stage, Status, TrialRecord

__all__ = [
    "ArmRecord",
    "AttentionMaps",
    "Decision",
    "EvaluationRecord",
    "Segment",
    "Stage",
    "Status",
    "SweepRecord",
    "TrialRecord",
    "load_sweep_record",
]
