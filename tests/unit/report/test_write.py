"""The whole report, written from a run directory on disk."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from fpt_ray import report as package
from fpt_ray.errors import RunDirectoryError
from fpt_ray.records import TrialRecord
from fpt_ray.report import write_live, write_report

CONFIG = ("trial_id", "stage", "arm", "labels", "slot", "seed", "seed_index", "values", "settings")


def save(run: Any, record: Any, loggers: tuple[str, ...] = ("tensorboard",)) -> None:
    run.write_json("resolved.json", {**record.resolved, "loggers": list(loggers)})
    for trial in record.trials:
        save_trial(run, trial)


def save_trial(run: Any, trial: TrialRecord) -> None:
    run.write_json(run.config_of(trial.trial_id), {name: getattr(trial, name) for name in CONFIG})
    lines = "".join(evaluation.to_line() for evaluation in trial.evaluations)
    run.write_bytes(run.log_of(trial.trial_id), lines.encode())


def test_a_report_is_all_the_files_that_readers_open(run: Any, finished: Any) -> None:
    save(run, finished.record())
    report = write_report(run)
    for name in ("trials.parquet", "evaluations.parquet", "studies/journal.log"):
        assert run.exists(name)
    assert run.entries("report") == ["figures", "summary.md"]
    assert run.entries("report/figures") == ["curves.png", "curves.svg", "search.png", "search.svg"]
    assert run.entries("tensorboard") == ["pretrained", "random"]
    assert [row.arm for row in report.rows] == ["pretrained", "random"]


def test_a_report_written_twice_is_the_same(run: Any, finished: Any) -> None:
    save(run, finished.record())
    write_report(run)
    files = [path for path in sorted(run.local_path.rglob("*")) if path.is_file()]
    former = [path.read_bytes() for path in files]
    write_report(run)
    assert [path.read_bytes() for path in files] == former


def test_the_json_document_keeps_every_digit(run: Any, finished: Any) -> None:
    save(run, finished.record())
    document = json.loads(json.dumps(write_report(run).to_json(), allow_nan=False))
    assert document["sweep"] == "demo"
    assert document["complete"] is True
    assert document["missing"] == []
    assert document["reference"] == "pretrained"
    assert document["tests_read"] == 6
    assert document["headline"][0].startswith("`pretrained` beats `random`")
    ours, theirs = document["arms"]
    assert ours["task"] == "bit_xor"
    assert ours["accuracies"] == {"100": 0.96, "101": 0.94, "102": 0.98}
    assert ours["values"] == {"training.learning_rate": 0.001}
    assert theirs["difference"]["mean"] == pytest.approx(-0.21, abs=1e-12)
    assert theirs["statuses"] == {"stopped": 1, "finished": 5}


def test_the_json_document_holds_fairness_published_numbers_and_convergence(
    run: Any, finished: Any
) -> None:
    asked = [{"table": "T15", "arms": {"pretrained": "output"}}]
    save(run, finished.record(published=asked))
    document = json.loads(json.dumps(write_report(run).to_json(), allow_nan=False))
    checks = [each["check"] for each in document["fairness"]]
    assert checks == ["edge", "few_seeds", "lost_trials"]
    assert document["fairness"][0].keys() == {"check", "arms", "fact", "consequence", "mend"}
    (block,) = document["published"]
    assert block["task"] == "bit_xor"
    (number,) = block["numbers"]
    assert (number["arm"], number["table"], number["row"]) == ("pretrained", "T15", "output")
    assert (number["value"], number["sem"], number["unit"]) == (56, None, "percent")
    assert (number["certainty"], number["source"]) == ("checked", "Lu et al. 2021")
    assert document["arms"][0]["convergence"]["steps"] == {"100": 300, "101": 300, "102": 300}


def test_the_terminal_gets_one_table(run: Any, finished: Any) -> None:
    save(run, finished.record())
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(write_report(run).table())
    text = console.export_text()
    assert "demo" in text
    assert "96.00 [91.03, 100.97]" in text
    assert "-21.00 [-31.83, -10.17]" in text
    assert "`pretrained` beats `random` by 21.00 points" in text


def test_a_sweep_without_a_search_has_one_figure(run: Any, new_sweep: Any) -> None:
    sweep = new_sweep(arms=("default",), space={})
    sweep.final("default", None, 0, 0.9)
    save(run, sweep.record(), loggers=())
    report = write_report(run)
    assert run.entries("report/figures") == ["curves.png", "curves.svg"]
    assert not run.exists("tensorboard")
    assert not run.exists("studies")
    assert report.to_json()["missing"] == ["default: 1 of 3 final seeds"]


def test_a_sweep_without_a_single_trial_has_a_report(run: Any, new_sweep: Any) -> None:
    save(run, new_sweep().record())
    assert write_report(run).to_json()["complete"] is False
    assert b"This sweep is unfinished" in run.read_bytes("report/summary.md")


def test_live_updates_write_no_summary(run: Any, finished: Any) -> None:
    record = finished.record(loggers=["tensorboard"])
    write_live(run, record, previous=None)
    assert run.entries() == ["evaluations.parquet", "studies", "tensorboard", "trials.parquet"]


def test_what_is_no_run_directory_is_refused(run: Any) -> None:
    with pytest.raises(RunDirectoryError, match=r"not a run directory: it has no resolved\.json"):
        write_report(run)


def test_the_package_offers_few_names_and_imports_nothing_slow() -> None:
    assert package.__all__ == ["Report", "add_attention", "write_live", "write_report"]
    code = "import sys, fpt_ray.report; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"matplotlib", "scipy", "optuna", "tensorboardX"} & set(loaded.stdout.split())
