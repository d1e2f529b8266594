"""Event files: what TensorBoard reads from them, and that a longer log only adds to a file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fpt_ray.report.tensorboard import event_bytes, event_file, write_tensorboard


def read(run: Any, trial: Any) -> dict[str, list[tuple[int, float]]]:
    accumulator = EventAccumulator(str((run.local_path / event_file(trial)).parent)).Reload()
    return {
        tag: [(event.step, pytest.approx(event.value)) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def test_tensorboard_reads_every_evaluation(run: Any, finished: Any) -> None:
    record = finished.record()
    write_tensorboard(run, record)
    finalist = record.finalists("pretrained")[0]
    assert read(run, finalist) == {
        "train/loss": [(100, 0.6), (200, 0.5), (300, 0.14)],
        "validation/loss": [(100, 0.5), (200, 0.4), (300, 0.04)],
        "validation/accuracy": [(100, 0.5), (200, 0.6), (300, 0.96)],
        "test/accuracy": [(300, 0.96)],
    }
    diverged = record.trials[2]
    assert read(run, diverged)["validation/accuracy"] == [(100, 0.55)]


def test_wall_times_follow_the_log(run: Any, finished: Any) -> None:
    run.write_json("environment.json", {"runs": [{"started": "2026-01-02T03:04:05+00:00"}]})
    record = finished.record()
    write_tensorboard(run, record)
    folder = (run.local_path / event_file(record.trials[0])).parent
    events = EventAccumulator(str(folder)).Reload().Scalars("train/loss")
    assert events[0].wall_time == 1767323045 + 2.5


def test_a_longer_log_extends_the_file_that_tensorboard_holds_open(run: Any, finished: Any) -> None:
    record = finished.record()
    whole = record.trials[1]
    begun = replace(whole, evaluations=whole.evaluations[:1])
    write_tensorboard(run, replace(record, trials=(begun,)))
    path = run.local_path / event_file(whole)
    former, inode = path.read_bytes(), path.stat().st_ino
    write_tensorboard(run, record)
    assert path.read_bytes() == event_bytes(whole)
    assert path.read_bytes().startswith(former)
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: b"x" + data[1:]])
def test_a_torn_or_foreign_file_is_mended(run: Any, finished: Any, damage: Any) -> None:
    trial = finished.record().trials[1]
    run.write_bytes(event_file(trial), damage(event_bytes(trial)))
    write_tensorboard(run, finished.record())
    assert run.read_bytes(event_file(trial)) == event_bytes(trial)


def test_unchanged_trials_are_not_looked_at(run: Any, finished: Any) -> None:
    record = finished.record()
    write_tensorboard(run, record, previous=record)
    assert not run.exists("tensorboard")


def test_a_trial_without_evaluations_has_no_file(run: Any, new_sweep: Any) -> None:
    sweep = new_sweep()
    sweep.tune("random", 1e-3, [])
    write_tensorboard(run, sweep.record())
    assert not run.exists("tensorboard")


@pytest.mark.parametrize(
    ("arm", "folder"),
    [
        ("+positions/random", "+positions%2frandom"),
        ("..", "%2e."),
        ('a b:"c"', "a%20b%3a%22c%22"),
        ("naïve", "na%efve"),
    ],
)
def test_arms_name_one_safe_folder_each(finished: Any, arm: str, folder: str) -> None:
    trial = replace(finished.record().trials[0], arm=arm)
    assert event_file(trial).split("/")[:2] == ["tensorboard", folder]
