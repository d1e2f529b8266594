"""The two Parquet files of a run directory: one row a trial, one row an evaluation."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fpt_ray.records import EvaluationRecord, SweepRecord, TrialRecord
from fpt_ray.storage import RunDirectory

TRIALS_FILE = "trials.parquet"
EVALUATIONS_FILE = "evaluations.parquet"

_TRIAL_KEYS = (("trial_id", pa.string()), ("stage", pa.string()), ("arm", pa.string()))
_TRIAL_RESULTS = (
    ("seed", pa.int64()),
    ("status", pa.string()),
    ("reason", pa.string()),
    ("steps", pa.int64()),
    ("best_step", pa.int64()),
    ("validation_accuracy", pa.float64()),
    ("validation_loss", pa.float64()),
    ("test_accuracy", pa.float64()),
    ("test_loss", pa.float64()),
    ("trained_parameters", pa.int64()),
    ("train_s", pa.float64()),
    ("pack", pa.int64()),
)
_EVALUATION_SCHEMA = pa.schema(
    [
        *_TRIAL_KEYS,
        ("step", pa.int64()),
        ("sequence", pa.int64()),
        ("decision", pa.string()),
        ("train_loss", pa.float64()),
        ("validation_loss", pa.float64()),
        ("validation_accuracy", pa.float64()),
        ("wall_s", pa.float64()),
        ("pack", pa.int64()),
    ]
)


def write_tables(run: RunDirectory, record: SweepRecord) -> None:
    """Write ``trials.parquet`` and ``evaluations.parquet``, each atomically."""
    for name, table in (
        (TRIALS_FILE, trials_table(record)),
        (EVALUATIONS_FILE, evaluations_table(record)),
    ):
        run.write_bytes(name, _to_parquet(table))


def trials_table(record: SweepRecord) -> pa.Table:
    """Build one row a trial, by arm, stage (tune first), slot and seed.

    ``compare.AXIS`` columns hold the arm's label, ``tune.KEY`` columns the tuned value: numbers
    where every value is one, else text, lists as JSON. Measurements are those of the best
    evaluation, ``best_step``.
    """
    order = {arm.name: index for index, arm in enumerate(record.arms)}
    trials = sorted(
        record.trials,
        key=lambda t: (order[t.arm], t.stage == "final", t.slot, t.seed_index, t.trial_id),
    )
    axes = _in_order(axis for arm in record.arms for axis in arm.labels)
    tuned = [(f"tune.{key}", _tuned_column(trials, key)) for key in record.space]
    columns = [
        *((name, _column(trials, name, kind)) for name, kind in _TRIAL_KEYS),
        *((f"compare.{axis}", _labels_column(trials, axis)) for axis in axes),
        *tuned,
        *((name, _column(trials, name, kind)) for name, kind in _TRIAL_RESULTS),
    ]
    return pa.table(dict(columns))


def evaluations_table(record: SweepRecord) -> pa.Table:
    """Build one row an evaluation, in the sweep-wide order of ``sequence``."""
    pairs = [(trial, evaluation) for trial in record.trials for evaluation in trial.evaluations]
    pairs.sort(key=lambda pair: (pair[1].sequence, pair[0].trial_id))
    rows = [_evaluation_row(trial, evaluation) for trial, evaluation in pairs]
    return pa.Table.from_pylist(rows, schema=_EVALUATION_SCHEMA)


def _evaluation_row(trial: TrialRecord, evaluation: EvaluationRecord) -> dict[str, Any]:
    return {
        field.name: getattr(trial if field.name in dict(_TRIAL_KEYS) else evaluation, field.name)
        for field in _EVALUATION_SCHEMA
    }


def _column(trials: Sequence[TrialRecord], name: str, kind: pa.DataType) -> pa.Array:
    return pa.array([_result(trial, name) for trial in trials], type=kind)


def _result(trial: TrialRecord, name: str) -> Any:
    if name == "best_step":
        return trial.best.step if trial.best else None
    if name.startswith("validation_"):
        return getattr(trial.best, name) if trial.best else None
    return getattr(trial, name)


def _labels_column(trials: Sequence[TrialRecord], axis: str) -> pa.Array:
    return pa.array([trial.labels.get(axis) for trial in trials], type=pa.string())


def _tuned_column(trials: Sequence[TrialRecord], key: str) -> pa.Array:
    """Store one tuned key as numbers if all its values are, else as text."""
    values = [trial.values.get(key) for trial in trials]
    known = [value for value in values if value is not None]
    if all(type(value) is bool for value in known) and known:
        return pa.array(values, type=pa.bool_())
    if all(type(value) is int for value in known) and known:
        return pa.array(values, type=pa.int64())
    if all(type(value) in (int, float) for value in known):
        return pa.array(values, type=pa.float64())
    return pa.array([_to_text(value) for value in values], type=pa.string())


def _to_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _to_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()
