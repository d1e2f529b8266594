"""Commands in this process: what they print, where, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fpt_ray.cli import main
from fpt_ray.storage import RunDirectory
from tests.integration.test_search import drive, sweep_with

ROOT = Path(__file__).parents[2]
QUICKSTART = str(ROOT / "sweeps" / "quickstart.yaml")


def test_plan_prints_a_table_or_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", QUICKSTART]) == 0
    assert "rungs at 50, 150, full length 300 steps" in capsys.readouterr().out
    assert main(["plan", QUICKSTART, "--json", "--set", "final.seeds=7"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [arm["final_trials"] for arm in plan["arms"]] == [7, 7]
    assert plan["rungs"] == [50, 150]


def test_validate_tells_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("task: {name: bit_xorr}\n")
    assert main(["validate", QUICKSTART, str(bad)]) == 2
    printed = capsys.readouterr()
    assert f"{QUICKSTART}: valid, 2 arms" in printed.out
    assert f"{bad}:1:" in printed.err


def test_report_rebuilds_what_a_run_directory_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory(tmp_path / "demo")
    record, _ = drive(run, sweep_with(), 0)
    run.write_json(RunDirectory.RESOLVED, record.resolved)
    assert main(["report", run.uri, "--json"]) == 0
    printed = capsys.readouterr()
    assert {row["arm"] for row in json.loads(printed.out)["arms"]} == {"good", "hopeless"}
    assert printed.err.endswith("report/summary.md\n")
    assert main(["report", run.uri]) == 0
    assert "hopeless" in capsys.readouterr().out


def test_what_is_no_run_directory_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {tmp_path}: not a run directory")
    assert "fix: give the directory STORAGE/NAME" in printed


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="not a run directory"):
        main(["report", str(tmp_path), "--debug"])


def test_a_relative_storage_inside_a_job_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.delenv("FPT_RAY_STORAGE", raising=False)
    assert main(["run", QUICKSTART]) == 1
    assert "would vanish with the job's working directory" in capsys.readouterr().err


PACKS = """\
name: packs
task: {name: bit_xor}
model: {backbone: tiny-gpt2, init: random}
training: {batch_size: 4, grad_clip_norm: 0.1}
compare:
  trained:
    norms: {model.trained: [output, layer_norm]}
    ends: {model.trained: [output, layer_norm, input]}
final: {seeds: 1}
"""
VERIFY = ["verify-pack", "--steps", "2", "--trials", "2"]


def test_verify_pack_prints_a_table_or_one_json_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "packs.yaml"
    file.write_text(PACKS)
    assert main([*VERIFY, str(file)]) == 0
    printed = capsys.readouterr()
    assert "Equal: trials in packs train as they do alone." in printed.out
    assert printed.err == "pack 1 of 1: 2 trials\n"
    assert main([*VERIFY, str(file), "--json", "--set", "training.dropout=0"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["equal"]
    assert [trial["arm"] for trial in document["packs"][0]["trials"]] == ["norms", "ends"]


def test_verify_pack_fails_above_the_tolerance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fpt_ray.training.pack.adam import RowAdam

    update = RowAdam.update
    monkeypatch.setattr(
        RowAdam, "update", lambda self, norms, skipped: update(self, norms.flip(0), skipped)
    )
    file = tmp_path / "packs.yaml"
    file.write_text(PACKS)
    assert main([*VERIFY, str(file), "--steps", "4"]) == 1
    assert "NOT EQUAL: 2 of 2 trials" in capsys.readouterr().out
    assert main([*VERIFY, str(file), "--steps", "4", "--tolerance", "1"]) == 0


def test_verify_pack_refuses_a_bad_file_and_bad_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "packs.yaml"
    file.write_text(PACKS.replace("bit_xor", "bit_xorr"))
    assert main([*VERIFY, str(file)]) == 2
    assert f"{file}:2:" in capsys.readouterr().err
    file.write_text(PACKS)
    assert main(["verify-pack", str(file), "--steps", "0"]) == 2
