"""A second sweep starts from what a first one trained: both run as a user runs them."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from fpt_ray.config import Sweep, TrialSettings
from fpt_ray.errors import SweepFileError
from fpt_ray.orchestrate import Options, run_sweep
from fpt_ray.records import SweepRecord, load_sweep_record
from fpt_ray.storage import RunDirectory
from fpt_ray.tasks import build_task
from fpt_ray.training.blobs import unpack
from fpt_ray.training.build import build_model

FIRST: dict[str, Any] = {
    "name": "first",
    "task": {"name": "bit_memory", "patterns": 2, "length": 8, "token_bits": 4},
    "model": {"backbone": "tiny-gpt2", "init": "random", "trained": ["all"]},
    "training": {
        "batch_size": 4,
        "max_steps": 10,
        "eval_every": 5,
        "learning_rate": 0.01,
        "validation_size": 32,
        "test_size": 32,
    },
    "final": {"seeds": 2},
    "resources": {"pack": 1},
}
SECOND: dict[str, Any] = FIRST | {
    "name": "second",
    "task": {"name": "bit_xor", "length": 3},
    "model": {"backbone": "tiny-gpt2", "trained": ["input", "output"]},
    "compare": {
        "init": {
            "bit memory": {"model.init": {"checkpoint": "runs/first#default"}},
            "random": {"model.init": "random"},
        }
    },
}


def run(content: dict[str, Any]) -> tuple[SweepRecord, str]:
    """Run a sweep to its end; return its record, and what was said on the way."""
    said = io.StringIO()
    options = Options("demo.yaml", b"", Console(file=said, width=200), address="local")
    directory = RunDirectory.below("runs", content["name"])
    return run_sweep(Sweep.model_validate(content), directory, options), said.getvalue()


def start_from(place: str) -> dict[str, Any]:
    """Write the second sweep with its donor somewhere else."""
    moved = {"bit memory": {"model.init": {"checkpoint": place}}}
    return SECOND | {"compare": {"init": SECOND["compare"]["init"] | moved}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory in which both sweeps have run."""
    folder = tmp_path_factory.mktemp("two sweeps")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FPT_RAY_CACHE", str(folder / "cache"))
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        run(FIRST)
        run(SECOND)
        yield folder


def frozen_of(name: str, arm: str) -> list[str]:
    """Read the fingerprints of what an arm's finalists kept frozen."""
    directory = RunDirectory.below("runs", name)
    finalists = load_sweep_record(directory).finalists(arm)
    files = [directory.read_bytes(directory.best_of(t.trial_id)) for t in finalists]
    return [unpack(data, "best").document["frozen"] for data in files if data is not None]


def test_every_seed_starts_from_the_donors_backbone(place: Path) -> None:
    record = load_sweep_record(RunDirectory.below("runs", "second"))
    assert [t.status for t in record.trials] == ["finished"] * 4
    started, drawn = frozen_of("second", "bit memory"), frozen_of("second", "random")
    assert len(started) == len(drawn) == 2
    assert len(set(started)) == 1
    assert len({*started, *drawn}) == 3
    settings = TrialSettings.model_validate(record.finalists("bit memory")[0].settings)
    model, frozen = build_model(settings, 0, build_task(settings), torch.device("cpu"))
    assert {frozen} == set(started)
    donor = load_sweep_record(RunDirectory.below("runs", "first"))
    ranks = {(t.best.validation_accuracy, -t.best.validation_loss): t for t in donor.trials}
    best = ranks[max(ranks)]
    directory = RunDirectory.below("runs", "first")
    tensors = unpack(directory.read_bytes(directory.best_of(best.trial_id)), "best").tensors
    for name, value in model.backbone.named_parameters():
        assert torch.equal(value, tensors[f"parameter/backbone.{name}"])


def test_a_moved_donor_changes_nothing(place: Path) -> None:
    shutil.copytree("runs/first", "moved")
    _, said = run(start_from("moved#default"))
    assert "nothing is left to train" in said


def test_other_weights_under_the_same_name_are_refused(place: Path) -> None:
    shutil.copytree("runs/first", "other")
    other = RunDirectory("other")
    logs = [other.log_of(name) for name in other.directories(RunDirectory.TRIALS)]
    one, two = (other.read_bytes(log) for log in logs)
    for log, data in zip(logs, (two, one), strict=True):
        other.write_bytes(log, data)
    with pytest.raises(SweepFileError) as refused:
        run(start_from("other#default"))
    (problem,) = refused.value.problems
    assert problem.what.startswith("model.init.checkpoint: 'weights ")
    assert problem.what.count("'weights ") == 2
    assert "(arm bit memory) contradicts the trials" in problem.what


def test_a_donor_that_is_not_trained_yet_is_refused_before_ray_starts(place: Path) -> None:
    said = io.StringIO()
    options = Options("demo.yaml", b"", Console(file=said), address="local")
    sweep = Sweep.model_validate(start_from("runs/gone#default") | {"name": "third"})
    with pytest.raises(SweepFileError, match="runs/gone#default: there is no sweep"):
        run_sweep(sweep, RunDirectory.below("runs", "third"), options)
    assert "starting Ray" not in said.getvalue()
    assert not Path("runs/third").exists()
