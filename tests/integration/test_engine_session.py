"""A trial between its run directory and its engine, wherever it was interrupted; no cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fpt_ray.data.deliver import NOTHING
from fpt_ray.engine.loop import EngineLoop
from fpt_ray.engine.workshop import Workshop, start
from fpt_ray.errors import CheckpointError, TrialError
from fpt_ray.storage import RunDirectory
from fpt_ray.training import Pack, PackedTrial, Shelf
from tests.integration.engine_world import PATIENCE_S, commit, follow, measures, order


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FPT_RAY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "demo")


@pytest.fixture
def loop(run: RunDirectory) -> Iterator[EngineLoop]:
    device = torch.device("cpu")
    started = start(Workshop(run, NOTHING, device, "validation_accuracy", Shelf()), 1, 1)
    yield started
    started.close()


def advance(loop: EngineLoop, described: dict[str, Any]) -> dict[str, Any]:
    return loop.submit(described).result(PATIENCE_S)


def undisturbed(loop: EngineLoop, folder: Path) -> list[dict[str, Any]]:
    """Train the trial under another name, which its numbers do not depend on."""
    return measures(
        follow(loop, RunDirectory(folder / "demo"), [order("undisturbed")])["undisturbed"]
    )


def test_a_trial_that_is_started_anew_after_every_evaluation_goes_on_exactly(
    run: RunDirectory, loop: EngineLoop, tmp_path: Path
) -> None:
    results = []
    for _ in range(4):
        results.append(advance(loop, order()))
        commit(run, "t", results[-1])
    assert measures(results) == undisturbed(loop, tmp_path)


def test_a_saved_evaluation_whose_report_was_lost_is_reported_and_not_trained_again(
    loop: EngineLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = advance(loop, order())
    monkeypatch.setattr(Pack, "train", pytest.fail)
    assert advance(loop, order()) == lost


def test_a_state_behind_the_log_is_trained_on_without_reporting_twice(
    run: RunDirectory, loop: EngineLoop, tmp_path: Path
) -> None:
    first = order()
    commit(run, "t", advance(loop, first))
    state = run.read_bytes(run.state_of("t"))
    commit(run, "t", advance(loop, first))
    run.write_bytes(run.state_of("t"), state or b"")
    assert measures([advance(loop, order())]) == undisturbed(loop, tmp_path)[2:3]


def test_a_state_whose_log_is_gone_is_started_anew(
    run: RunDirectory, loop: EngineLoop, tmp_path: Path
) -> None:
    follow(loop, run, [order()], num_results=3)
    run.delete(run.log_of("t"))
    assert measures([advance(loop, order())]) == undisturbed(loop, tmp_path)[:1]


def test_a_missing_state_is_trained_again_up_to_the_log(
    run: RunDirectory, loop: EngineLoop, tmp_path: Path
) -> None:
    follow(loop, run, [order()], num_results=2)
    run.delete(run.state_of("t"))
    assert measures([advance(loop, order())]) == undisturbed(loop, tmp_path)[2:3]


def test_a_damaged_state_is_an_error(run: RunDirectory, loop: EngineLoop) -> None:
    commit(run, "t", advance(loop, order()))
    run.write_bytes(run.state_of("t"), b"damaged")
    with pytest.raises(CheckpointError):
        advance(loop, order())


def test_only_a_finalist_at_its_end_reads_the_test_split(
    run: RunDirectory, loop: EngineLoop
) -> None:
    results = follow(loop, run, [order(stage="final")])["t"]
    assert ["test_accuracy" in r for r in results] == [False, False, False, True]
    assert results[-1]["test_examples"] == 16
    assert results[-1]["test_skipped"] == 0


def test_a_finalist_whose_last_report_was_lost_is_tested_again(
    run: RunDirectory, loop: EngineLoop
) -> None:
    follow(loop, run, [order(stage="final")], num_results=3)
    lost = advance(loop, order(stage="final"))
    assert advance(loop, order(stage="final")) == lost
    assert "test_accuracy" in lost


def test_frozen_weights_are_verified_at_a_full_length_end_only(
    run: RunDirectory, loop: EngineLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[int] = []
    monkeypatch.setattr(PackedTrial, "verify_frozen", lambda trial: verified.append(trial.step))
    follow(loop, run, [order(), order("d", learning_rate=1e30)])
    assert verified == [20]


def test_weights_that_have_changed_fail_their_trial(
    run: RunDirectory, loop: EngineLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(trial: PackedTrial) -> None:
        raise CheckpointError("frozen parameters changed")

    monkeypatch.setattr(PackedTrial, "verify_frozen", changed)
    with pytest.raises(CheckpointError, match="frozen parameters changed"):
        follow(loop, run, [order()])


def test_a_longer_trial_goes_on_from_its_end(run: RunDirectory, loop: EngineLoop) -> None:
    follow(loop, run, [order()])
    assert advance(loop, order(max_steps=30))["step"] == 25


def test_a_trial_that_has_ended_is_not_started_again(run: RunDirectory, loop: EngineLoop) -> None:
    follow(loop, run, [order()])
    with pytest.raises(TrialError, match="all steps are in the log"):
        advance(loop, order())
    run.delete(run.state_of("t"))
    with pytest.raises(TrialError, match="all steps are in the log"):
        advance(loop, order())


def test_divergence_is_reported_with_its_step_and_saves_no_state(
    run: RunDirectory, loop: EngineLoop
) -> None:
    result = advance(loop, order(learning_rate=1e30))
    assert result["diverged"]
    assert 1 <= result["step"] <= 5
    assert result["reason"]
    assert run.read_bytes(run.state_of("t")) is None


def test_a_log_that_cannot_be_read_fails_its_trial(run: RunDirectory, loop: EngineLoop) -> None:
    run.write_bytes(run.log_of("t"), b"nonsense\n")
    with pytest.raises(Exception, match="not the record of an evaluation"):
        advance(loop, order())
    assert advance(loop, order("other"))["step"] == 5
