from __future__ import annotations

import json
import signal
from pathlib import Path

import pyarrow.parquet as pq

from tests.e2e.conftest import Workplace, assert_every_evaluation_once, wait_until


def test_a_sweep_runs_to_its_report_and_grows_by_edits(workplace: Workplace) -> None:
    """One sweep through its life, since every start of Ray costs ten seconds."""
    done = workplace.run(workplace.write(), "--json")
    document = json.loads(done.stdout)
    assert {row["arm"] for row in document["arms"]} == {"ends", "all"}
    first = workplace.record()
    assert_every_evaluation_once(first)
    assert [t.status for t in first.trials] == ["finished"] * 8
    assert all(t.tests_read == (t.stage == "final") for t in first.trials)
    _check_files(workplace.folder / "runs" / "demo")

    logs = workplace.logs()
    again = workplace.run(workplace.folder / "my sweep.yaml")
    assert "nothing is left to train" in again.stderr
    assert workplace.logs() == logs

    _check_refusals(workplace, logs)

    workplace.run(workplace.write(rates=[1e-3, 1e-2, 3e-3], seeds=3))
    grown = workplace.record()
    assert_every_evaluation_once(grown)
    assert len([t for t in grown.trials if t.stage == "tune"]) == 6
    assert all(len(grown.finalists(arm.name)) == 3 for arm in grown.arms)
    assert all(workplace.logs()[trial] == log for trial, log in logs.items())

    logs = workplace.logs()
    longer = workplace.run(workplace.write(rates=[1e-3, 1e-2, 3e-3], seeds=3, max_steps=60))
    assert "60" in longer.stdout or longer.stderr
    assert all(workplace.logs()[trial].startswith(log) for trial, log in logs.items())
    assert {t.steps for t in workplace.record().trials if t.status == "finished"} == {60}


def _check_files(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"sweep.yaml", "resolved.json", "environment.json", "trials", "studies"} <= names
    assert {"trials.parquet", "evaluations.parquet", "report", "tensorboard"} <= names
    assert "lease.json" not in names
    assert pq.read_table(run / "evaluations.parquet").num_rows == 8 * 4
    assert (run / "report" / "summary.md").read_text().startswith("# ")
    figures = {path.suffix for path in (run / "report" / "figures").iterdir()}
    assert figures == {".svg", ".png"}


def _check_refusals(workplace: Workplace, logs: dict[str, str]) -> None:
    file = workplace.write()
    file.write_text(file.read_text().replace("batch_size: 4", "batch_size: 8"))
    refused = workplace.run(file, code=2)
    assert "training.batch_size: 4 -> 8 contradicts the trials" in refused.stderr
    assert "use another name" in refused.stderr
    fewer = workplace.run(workplace.write(rates=[1e-3]), code=2)
    assert "[0.001, 0.01] -> [0.001]" in fewer.stderr
    assert workplace.logs() == logs


def test_a_second_driver_is_refused_and_an_interrupt_loses_nothing(workplace: Workplace) -> None:
    file = workplace.write(max_steps=2000)
    driver = workplace.start(file)
    wait_until(lambda: workplace.num_evaluations() > 2)
    refused = workplace.run(file, code=1)
    assert f"another driver is using this run directory: process {driver.pid}" in refused.stderr
    driver.send_signal(signal.SIGINT)
    _, stderr = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "run the same command to go on" in stderr
    assert not (workplace.folder / "runs" / "demo" / "lease.json").exists()
    assert_every_evaluation_once(workplace.record())


def test_divergence_is_a_result_and_a_raising_trial_fails_alone(workplace: Workplace) -> None:
    # Training on a batch of 2**40 sequences must fail for want of memory, and a rate of 1e30 must
    # diverge.
    text = workplace.write(rates=[1e-3, 1e30], max_steps=20).read_text()
    broken = text.replace(
        "    all: {model.trained: [all]}", "    all: {training.batch_size: 1099511627776}"
    )
    file = workplace.folder / "my sweep.yaml"
    file.write_text(text)
    workplace.run(file)
    diverged = [t for t in workplace.record().trials if t.status == "diverged"]
    assert len(diverged) == 2
    assert all(t.steps >= 1 and t.reason for t in diverged)

    file.write_text(broken.replace("name: demo", "name: broken"))
    done = workplace.run(file, code=1)
    record = workplace.record("broken")
    failed = [t for t in record.trials if t.status == "failed"]
    assert {t.arm for t in failed} == {"all"}
    assert len(record.finalists("ends")) == 2
    attempts = json.loads(
        (workplace.folder / "runs/broken/trials" / failed[0].trial_id / "failure.json").read_text()
    )["attempts"]
    assert attempts == 3
    assert "failed" in done.stdout + done.stderr
