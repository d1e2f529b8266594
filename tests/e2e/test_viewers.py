"""optuna-dashboard and TensorBoard, started for real on a finished sweep."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.clusters import free_ports
from tests.e2e.conftest import RATES, Workplace, wait_until


@contextmanager
def server(*command: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def answers(url: str) -> bool:
    try:
        fetch(url)
    except OSError:
        return False
    return True


def test_optuna_dashboard_shows_the_trials_of_every_arm(finished: Workplace) -> None:
    (port,) = free_ports(1)
    journal = str(finished.folder / "runs" / "demo" / "studies" / "journal.log")
    program = "import sys; from optuna_dashboard._cli import main; sys.exit(main())"
    api = f"http://127.0.0.1:{port}/api/studies"
    with server("-c", program, journal, "--port", str(port)):
        wait_until(lambda: answers(api))
        studies = fetch(api)["study_summaries"]
        assert {s["study_name"] for s in studies} == {"demo/ends", "demo/all"}
        for study in studies:
            trials = fetch(f"{api}/{study['study_id']}?after=0")["trials"]
            assert [t["state"] for t in trials] == ["Complete", "Complete", "Pruned"]
            rates = [float(t["params"][0]["param_external_value"]) for t in trials]
            assert rates == RATES


def test_tensorboard_shows_the_curves_of_every_trial(finished: Workplace) -> None:
    (port,) = free_ports(1)
    folder: Path = finished.folder / "runs" / "demo" / "tensorboard"
    tags = f"http://127.0.0.1:{port}/data/plugin/scalars/tags"
    with server("-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)):
        wait_until(lambda: answers(tags) and len(fetch(tags)) == 8)
        found = fetch(tags)
    # A trial that diverged before its first evaluation has no point to draw.
    trials = {t.trial_id: t for t in finished.record().trials if t.status != "diverged"}
    assert {run.rsplit("/", 1)[-1] for run in found} == set(trials)
    for run, scalars in found.items():
        assert {"train/loss", "validation/loss", "validation/accuracy"} <= set(scalars)
        is_finalist = trials[run.rsplit("/", 1)[-1]].stage == "final"
        assert ("test/accuracy" in scalars) == is_finalist
