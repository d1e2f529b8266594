from __future__ import annotations

import json
import shutil
import signal

import pyarrow.parquet as pq

from tests.e2e.conftest import Workplace, assert_every_evaluation_once, wait_until


def test_a_sweep_leaves_results_that_anyone_can_read(finished: Workplace) -> None:
    document = json.loads(finished.output)
    assert {row["arm"] for row in document["arms"]} == {"ends", "all"}
    record = finished.record()
    assert_every_evaluation_once(record)
    assert [t.status for t in record.trials] == ["finished"] * 8
    assert all(t.tests_read == (t.stage == "final") for t in record.trials)

    run = finished.folder / "runs" / "demo"
    names = {path.name for path in run.iterdir()}
    assert {"sweep.yaml", "resolved.json", "environment.json", "trials", "studies"} <= names
    assert {"trials.parquet", "evaluations.parquet", "report", "tensorboard"} <= names
    assert "lease.json" not in names
    assert pq.read_table(run / "evaluations.parquet").num_rows == 8 * 4
    assert (run / "report" / "summary.md").read_text().startswith("# ")
    figures = {path.suffix for path in (run / "report" / "figures").iterdir()}
    assert figures == {".svg", ".png"}


def test_equal_seeds_see_equal_batches_in_every_arm(finished: Workplace) -> None:
    record = finished.record()
    seeds = [[t.seed for t in record.finalists(arm.name)] for arm in record.arms]
    assert seeds[0] == seeds[1] == list(record.final_seeds)


def test_a_finished_sweep_is_not_trained_again(finished: Workplace) -> None:
    logs = finished.logs()
    again = finished.run(finished.write())
    assert "nothing is left to train" in again.stderr
    assert "starting Ray" not in again.stderr
    assert finished.logs() == logs


def test_edits_that_contradict_are_refused_with_their_difference(finished: Workplace) -> None:
    logs = finished.logs()
    file = finished.write()
    file.write_text(file.read_text().replace("batch_size: 4", "batch_size: 8"))
    refused = finished.run(file, code=2)
    assert "training.batch_size: 4 -> 8 contradicts the trials" in refused.stderr
    assert "use another name" in refused.stderr
    fewer = finished.run(finished.write(rates=[1e-3]), code=2)
    assert "[0.001, 0.01] -> [0.001]" in fewer.stderr
    assert finished.logs() == logs


def test_a_moved_sweep_grows_by_edits_and_trains_only_what_is_new(
    finished: Workplace, workplace: Workplace
) -> None:
    shutil.copytree(finished.folder / "runs", workplace.folder / "runs")
    logs = workplace.logs()
    file = workplace.write(rates=[1e-3, 1e-2, 3e-3], seeds=3)
    arm = "    third: {model.trained: [output]}\ntune:"
    file.write_text(file.read_text().replace("tune:", arm, 1))
    workplace.run(file)
    grown = workplace.record()
    assert_every_evaluation_once(grown)
    assert len([t for t in grown.trials if t.stage == "tune"]) == 9
    assert all(len(grown.finalists(arm.name)) == 3 for arm in grown.arms)
    assert all(workplace.logs()[trial] == log for trial, log in logs.items())

    logs = workplace.logs()
    workplace.run(file, "--set", "training.max_steps=60")
    assert all(workplace.logs()[trial].startswith(log) for trial, log in logs.items())
    assert {t.steps for t in workplace.record().trials if t.status == "finished"} == {60}


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
