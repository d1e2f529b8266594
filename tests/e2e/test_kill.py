"""``kill -9`` of everything that can die, each in the middle of a sweep."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from fpt_ray.config import load_sweep
from fpt_ray.orchestrate.resolved import resolve
from fpt_ray.search import ArmScheduler, Ledger
from fpt_ray.storage import Lease, RunDirectory
from tests.e2e.conftest import Workplace, assert_every_evaluation_once, descendants, wait_until

ENOUGH = 6


def close(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> bool:
    """Compare two tables: numbers to 1e-6, all else exactly."""

    def same(a: Any, b: Any) -> bool:
        return a == pytest.approx(b, abs=1e-6) if isinstance(a, float) else a == b

    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
        for a, b in zip(first, second, strict=True)
    )


def assert_rungs_equal_the_log(workplace: Workplace, file: Path) -> None:
    """Rebuild the scheduler from the log and compare its rungs with the log itself."""
    run = RunDirectory(workplace.folder / "runs" / "demo")
    sweep = load_sweep(file)
    with Lease(run) as lease:
        scheduler = ArmScheduler(sweep, Ledger(run, lease, resolve(sweep)))
    record = workplace.record()
    for arm, inner in scheduler.arms.items():
        rungs = dict(inner._brackets[0]._rungs)  # type: ignore[attr-defined]
        for step in (10, 20):
            logged = {
                t.trial_id: e.validation_accuracy
                for t in record.of_arm(arm, "tune")
                for e in t.evaluations
                if e.step == step
            }
            assert rungs[step] == logged


def test_kill_9_of_the_driver_a_trial_and_all_of_ray(workplace: Workplace, tmp_path: Path) -> None:
    undisturbed = Workplace(tmp_path / "undisturbed path")
    undisturbed.folder.mkdir()
    undisturbed.run(undisturbed.write(max_steps=120))

    file = workplace.write(max_steps=120)
    driver = workplace.start(file)
    wait_until(lambda: workplace.num_evaluations() >= ENOUGH)
    logs = workplace.logs()
    driver.kill()
    driver.wait()

    driver = workplace.start(file)
    wait_until(lambda: workplace.num_evaluations() >= 2 * ENOUGH)
    workers = [pid for pid, command in descendants(driver.pid) if "TrialTrainable" in command]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    wait_until(lambda: workplace.num_evaluations() >= 3 * ENOUGH)
    for pid, command in descendants(driver.pid):
        if "raylet" in command or "gcs_server" in command:
            os.kill(pid, signal.SIGKILL)
    driver.communicate(timeout=300)
    assert driver.returncode != 0

    workplace.run(file)
    assert all(workplace.logs()[trial].startswith(log) for trial, log in logs.items())
    assert_every_evaluation_once(workplace.record())
    assert close(workplace.table(), undisturbed.table())


def test_kill_9_under_asha_keeps_rungs_and_decisions(workplace: Workplace) -> None:
    file = workplace.write(
        rates=[1e-5, 1e-4, 1e-3, 1e-2],
        max_steps=40,
        scheduler="{name: asha, grace_period: 10, reduction_factor: 2}",
        resources="{pack: 2}",
    )
    driver = workplace.start(file)
    wait_until(lambda: workplace.num_evaluations() >= ENOUGH)
    driver.kill()
    driver.wait()
    decided = workplace.logs()
    workplace.run(file)
    record = workplace.record()
    assert all(workplace.logs()[trial].startswith(log) for trial, log in decided.items())
    assert_every_evaluation_once(record)
    assert_rungs_equal_the_log(workplace, file)
    for arm in record.arms:
        tuned = record.of_arm(arm.name, "tune")
        assert len(tuned) == 4
        assert any(t.status == "finished" for t in tuned)
