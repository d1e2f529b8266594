"""Packs as a user meets them: the same numbers as trials alone, whatever dies in between."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import (
    Workplace,
    assert_every_evaluation_once,
    descendants,
    wait_until,
    workplace_in,
)

# At 1e-2 some of these trials magnify rounding, alone too, until nothing is left to compare.
RATES = [5e-4, 1e-3, 3e-3]
MEASURES = ("train_loss", "validation_loss", "validation_accuracy")
NO_DROPOUT = ("--set", "training.dropout=0")


def evaluations(place: Workplace) -> dict[tuple[str, int], dict[str, Any]]:
    """Read evaluations.parquet by trial and step."""
    rows = pq.read_table(place.folder / "runs" / "demo" / "evaluations.parquet").to_pylist()
    return {(row["trial_id"], row["step"]): row for row in rows}


def assert_equal_numbers(first: Workplace, second: Workplace) -> None:
    """Compare the evaluations of two runs of one sweep, all of them, to 1e-4."""
    ours, theirs = evaluations(first), evaluations(second)
    assert ours.keys() == theirs.keys()
    for key, row in ours.items():
        for name in MEASURES:
            assert row[name] == pytest.approx(theirs[key][name], abs=1e-4), (key, name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The sweep with one trial at a time, undisturbed."""
    with workplace_in(tmp_path_factory.mktemp("alone")) as place:
        place.run(place.write(max_steps=60, rates=RATES), *NO_DROPOUT)
        yield place


def packed(place: Workplace, pack: str = "4") -> Path:
    return place.write(max_steps=60, rates=RATES, resources=f"{{pack: {pack}}}")


def processes(driver_pid: int, name: str) -> list[int]:
    return [pid for pid, command in descendants(driver_pid) if name in command]


def test_a_packed_sweep_has_the_numbers_of_trials_alone(
    workplace: Workplace, alone: Workplace
) -> None:
    workplace.run(packed(workplace, "auto"), *NO_DROPOUT)
    assert_equal_numbers(workplace, alone)
    assert {row["pack"] for row in evaluations(alone).values()} == {1}


def test_kill_9_of_an_engine_and_of_a_trial_changes_no_number(
    workplace: Workplace, alone: Workplace
) -> None:
    driver = workplace.start(packed(workplace), *NO_DROPOUT)
    for victim, num_evaluations in (("Engine", 3), ("TrialTrainable", 15)):
        wait_until(lambda: workplace.num_evaluations() >= num_evaluations)  # noqa: B023
        found = processes(driver.pid, victim)
        assert found
        os.kill(found[0], signal.SIGKILL)
    stdout, stderr = driver.communicate(timeout=300)
    assert driver.returncode == 0, stdout + stderr
    assert_every_evaluation_once(workplace.record())
    assert_equal_numbers(workplace, alone)


def test_a_diverging_trial_leaves_the_others_as_they_are(
    workplace: Workplace, alone: Workplace
) -> None:
    rates = [*RATES, 1e30]
    file = workplace.write(max_steps=60, rates=rates, resources="{pack: 4}")
    workplace.run(file, *NO_DROPOUT)
    found, expected = evaluations(workplace), evaluations(alone)
    assert max(row["pack"] for row in found.values()) >= 2
    assert {row["decision"] for key, row in found.items() if key not in expected} == {"diverge"}
    for key, row in expected.items():
        for name in MEASURES:
            assert found[key][name] == pytest.approx(row[name], abs=1e-4), (key, name)
