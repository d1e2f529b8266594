from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fpt_ray.config import TrialSettings
from fpt_ray.training import build_trainer
from tests.e2e.conftest import RATES, Workplace, assert_every_evaluation_once, wait_until


def test_a_sweep_leaves_results_that_anyone_can_read(finished: Workplace) -> None:
    document = json.loads(finished.output)
    assert {row["arm"] for row in document["arms"]} == {"ends", "all"}
    record = finished.record()
    assert_every_evaluation_once(record)
    diverged = [t for t in record.trials if t.status == "diverged"]
    assert [t.values["training.learning_rate"] for t in diverged] == [1e30, 1e30]
    assert all(t.steps >= 1 and t.reason for t in diverged)
    assert [t.status for t in record.trials if t not in diverged] == ["finished"] * 8
    assert all(t.tests_read == (t.stage == "final") for t in record.trials)

    run = finished.folder / "runs" / "demo"
    names = {path.name for path in run.iterdir()}
    assert {"sweep.yaml", "resolved.json", "environment.json", "trials", "studies"} <= names
    assert {"trials.parquet", "evaluations.parquet", "report", "tensorboard"} <= names
    assert "lease.json" not in names
    assert pq.read_table(run / "evaluations.parquet").num_rows == 8 * 4 + 2
    assert (run / "report" / "summary.md").read_text().startswith("# ")
    figures = {path.suffix for path in (run / "report" / "figures").iterdir()}
    assert figures == {".svg", ".png"}


def test_equal_seeds_see_equal_batches_in_every_arm(finished: Workplace) -> None:
    record = finished.record()
    seeds = [[t.seed for t in record.finalists(arm.name)] for arm in record.arms]
    assert seeds[0] == seeds[1] == list(record.final_seeds)


def test_a_finished_sweep_is_not_trained_again(finished: Workplace) -> None:
    logs = finished.logs()
    again = finished.run(finished.write(rates=RATES))
    assert "nothing is left to train" in again.stderr
    assert "starting Ray" not in again.stderr
    assert finished.logs() == logs


def test_edits_that_contradict_are_refused_with_their_difference(finished: Workplace) -> None:
    logs = finished.logs()
    file = finished.write(rates=RATES)
    file.write_text(file.read_text().replace("batch_size: 4", "batch_size: 8"))
    refused = finished.run(file, code=2)
    assert "training.batch_size: 4 -> 8 contradicts the trials" in refused.stderr
    assert "use another name" in refused.stderr
    fewer = finished.run(finished.write(rates=[1e-3]), code=2)
    assert "[0.001, 0.01, 1e+30] -> [0.001]" in fewer.stderr
    assert finished.logs() == logs


def test_a_moved_sweep_grows_by_edits_and_trains_only_what_is_new(
    finished: Workplace, workplace: Workplace
) -> None:
    shutil.copytree(finished.folder / "runs", workplace.folder / "runs")
    logs = workplace.logs()
    file = workplace.write(rates=[*RATES, 3e-3], seeds=3)
    arm = "    third: {model.trained: [output]}\ntune:"
    file.write_text(file.read_text().replace("tune:", arm, 1))
    workplace.run(file)
    grown = workplace.record()
    assert_every_evaluation_once(grown)
    assert len([t for t in grown.trials if t.stage == "tune"]) == 12
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
    driver.send_signal(signal.SIGTERM)
    _, stderr = driver.communicate(timeout=400)
    assert driver.returncode == 130
    assert "interrupted; run the same command to go on" in stderr
    assert "Stack" not in stderr
    assert "*** SIG" not in stderr
    assert not (workplace.folder / "runs" / "demo" / "lease.json").exists()
    assert_every_evaluation_once(workplace.record())


def test_a_trial_that_raises_is_retried_and_then_fails_alone(workplace: Workplace) -> None:
    file = workplace.write(rates=[1e-3], max_steps=20)
    # A backbone's relative path counts from where the command is started.
    backbone = workplace.folder / "my backbone"
    backbone.mkdir()
    shape = {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 32}
    (backbone / "config.json").write_text(json.dumps({"model_type": "gpt2", **shape}))
    # A batch of 2**40 sequences fits into no memory.
    too_large = "{training.batch_size: 1099511627776}"
    file.write_text(file.read_text().replace("{model.trained: [all]}", too_large))
    backbone_set = ["--set", f"model.backbone=./{backbone.name}"]
    done = workplace.run(file, "--set", "failures.max_failures=1", *backbone_set, code=1)
    record = workplace.record()
    (failed,) = (t for t in record.trials if t.status == "failed")
    assert failed.arm == "all"
    assert failed.reason is not None
    assert "memory" in failed.reason.lower()
    trials = workplace.folder / "runs" / "demo" / "trials"
    assert json.loads((trials / failed.trial_id / "failure.json").read_text())["attempts"] == 2
    assert [t.status for t in record.finalists("ends")] == ["finished", "finished"]
    summary = (workplace.folder / "runs" / "demo" / "report" / "summary.md").read_text()
    assert failed.reason.split(":")[0] in summary
    assert "Traceback" not in done.stderr


def test_frozen_weights_are_bit_identical_after_a_sweep(
    finished: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = {f.name: f.read_bytes() for f in (finished.folder / "cache").rglob("*.safetensors")}
    monkeypatch.setenv("FPT_RAY_CACHE", str(tmp_path))
    for trial in finished.record().trials:
        build_trainer(TrialSettings.model_validate(trial.settings), trial.seed)
    drawn_anew = {f.name: f.read_bytes() for f in tmp_path.rglob("*.safetensors")}
    # One backbone for the seed that tuning shares, and one for each final seed.
    assert len(used) == 3
    assert used == drawn_anew
