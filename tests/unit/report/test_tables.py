"""The Parquet files: their columns, types and order."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from fpt_ray.report.tables import evaluations_table, trials_table, write_tables

TRIAL_COLUMNS = [
    *("trial_id", "stage", "arm", "compare.init", "tune.training.learning_rate", "seed"),
    *("status", "reason", "steps", "best_step", "validation_accuracy", "validation_loss"),
    *("test_accuracy", "test_loss", "trained_parameters", "train_s", "pack"),
]
EVALUATION_COLUMNS = [
    *("trial_id", "stage", "arm", "step", "sequence", "decision"),
    *("train_loss", "validation_loss", "validation_accuracy", "wall_s", "pack"),
]


def test_pandas_reads_one_row_a_trial(run: Any, finished: Any) -> None:
    write_tables(run, finished.record())
    table = pd.read_parquet(run.local_path / "trials.parquet")
    assert list(table.columns) == TRIAL_COLUMNS
    assert len(table) == 12
    assert table.arm.tolist() == ["pretrained"] * 6 + ["random"] * 6
    assert table.stage.tolist() == (["tune"] * 3 + ["final"] * 3) * 2
    assert table.status.tolist()[:3] == ["stopped", "finished", "diverged"]
    winner = table.iloc[1]
    assert (winner.best_step, winner.validation_accuracy, winner.steps) == (300, 0.95, 300)
    assert winner["tune.training.learning_rate"] == 1e-3
    assert pd.isna(winner.test_accuracy)
    assert table.test_accuracy.tolist()[3:6] == [0.96, 0.94, 0.98]
    assert table.reason[2] == "the loss is nan"
    assert table.pack.tolist() == [3] * 12


def test_evaluations_come_in_the_order_of_the_sweep(run: Any, finished: Any) -> None:
    finished.trials.reverse()
    write_tables(run, finished.record())
    table = pd.read_parquet(run.local_path / "evaluations.parquet")
    assert list(table.columns) == EVALUATION_COLUMNS
    assert table.sequence.tolist() == list(range(len(table)))
    assert set(table.pack) == {1, 2, 3}
    assert set(table.decision) == {"continue", "stop", "finish", "diverge"}
    assert table[table.decision == "diverge"].validation_accuracy.isna().all()


def test_a_sweep_without_trials_has_the_same_columns(new_sweep: Any) -> None:
    trials = trials_table(new_sweep().record())
    assert trials.column_names == TRIAL_COLUMNS
    assert trials.num_rows == 0
    assert trials.schema.field("seed").type == pa.int64()
    assert trials.schema.field("tune.training.learning_rate").type == pa.float64()
    assert evaluations_table(new_sweep().record()).column_names == EVALUATION_COLUMNS


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        ([1, 2, 3], pa.int64(), [1, 2, 3]),
        ([1, 0.5, 2], pa.float64(), [1.0, 0.5, 2.0]),
        ([True, False, True], pa.bool_(), [True, False, True]),
        ([["input"], "all", None], pa.string(), ['["input"]', "all", None]),
    ],
)
def test_tuned_columns_take_the_type_of_their_values(
    new_sweep: Any, values: list[Any], kind: pa.DataType, stored: list[Any]
) -> None:
    sweep = new_sweep(space={"training.learning_rate": {"choice": values}})
    for value in values:
        sweep.tune("random", value, [0.5])
    column = trials_table(sweep.record()).column("tune.training.learning_rate")
    assert column.type == kind
    assert column.to_pylist() == stored
