from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fpt_ray.errors import RunDirectoryError
from fpt_ray.records import EvaluationRecord, TrialRecord, load_sweep_record
from fpt_ray.records.sweep import assemble, select_winner
from fpt_ray.records.trial import best_of, status_of
from fpt_ray.storage import RunDirectory

RESOLVED: dict[str, Any] = {
    "name": "demo",
    "seed": 0,
    "reference": "a",
    "metric": "validation_accuracy",
    "direction": "max",
    "max_steps": 10,
    "num_trials": 2,
    "final_seeds": [5, 6],
    "tune": {"space": {"x": {"grid": [1, 2]}}, "scheduler": {"name": "fifo"}},
    "arms": [{"name": "a", "labels": {"axis": "a"}, "settings": {}}],
}


def trial(
    name: str, accuracy: float, loss: float = 0.5, step: int = 10, **changes: Any
) -> TrialRecord:
    log = (EvaluationRecord(step, 0, "finish", 0.1, loss, accuracy, 1.0, 1.0),)
    status, reason = status_of(log, 10, None)
    fields: dict[str, Any] = {
        "trial_id": name,
        "stage": "tune",
        "arm": "a",
        "labels": {"axis": "a"},
        "slot": 0,
        "seed": 1,
        "seed_index": 0,
        "values": {"x": name},
        "settings": {},
        "evaluations": log,
        "status": status,
        "reason": reason,
        "best": best_of(log, "validation_accuracy", "max"),
    }
    return TrialRecord(**(fields | changes))


def winner(*trials: TrialRecord) -> str | None:
    chosen = select_winner(trials, "validation_accuracy", "max")
    return chosen and chosen.trial_id


def test_the_best_full_length_configuration_wins() -> None:
    assert winner(trial("1", 0.8), trial("2", 0.9), trial("3", 0.99, step=5)) == "2"


def test_ties_go_to_the_smaller_loss_and_then_to_the_smaller_id() -> None:
    assert winner(trial("1", 0.9, 0.5), trial("2", 0.9, 0.4)) == "2"
    assert winner(trial("2", 0.9), trial("1", 0.9)) == "1"


def test_without_a_full_length_configuration_nobody_wins() -> None:
    assert winner(trial("1", 0.9, step=5)) is None
    assert winner() is None


def test_a_configuration_counts_with_the_mean_over_its_tuning_seeds() -> None:
    lucky = [trial("1", 1.0, values={"x": 1}), trial("2", 0.0, values={"x": 1}, seed_index=1)]
    steady = [trial("3", 0.6, values={"x": 2}), trial("4", 0.6, values={"x": 2}, seed_index=1)]
    assert winner(*lucky, *steady) == "3"


def test_a_configuration_with_an_unfinished_seed_cannot_win() -> None:
    half = [trial("1", 1.0, values={"x": 1}), trial("2", 1.0, values={"x": 1}, step=5)]
    assert winner(*half, trial("3", 0.1)) == "3"


def test_finalists_of_a_configuration_that_no_longer_wins_are_superseded() -> None:
    record = assemble(
        RESOLVED,
        [
            trial("1", 0.8),
            trial("2", 0.9, slot=1),
            trial("f1", 0.8, stage="final", values={"x": "1"}),
            trial("f2", 0.9, stage="final", values={"x": "2"}),
        ],
    )
    assert [t.trial_id for t in record.trials] == ["1", "2", "f1", "f2"]
    statuses = {t.trial_id: t.status for t in record.trials}
    assert statuses["f1"] == "superseded"
    assert statuses["f2"] == "finished"
    assert [t.trial_id for t in record.finalists("a")] == ["f2"]


def test_trials_of_arms_that_the_sweep_does_not_have_are_left_out() -> None:
    assert assemble(RESOLVED, [trial("1", 0.8)]).trials
    without = RESOLVED | {"arms": []}
    assert assemble(without, [trial("1", 0.8)]).trials == ()


def test_a_directory_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"it has no resolved\.json"):
        load_sweep_record(RunDirectory(tmp_path))


def test_a_trial_folder_without_configuration_is_no_trial(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "demo")
    run.write_json(RunDirectory.RESOLVED, RESOLVED)
    run.write_bytes(run.state_of("orphan"), b"")
    assert load_sweep_record(run).trials == ()
