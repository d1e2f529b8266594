"""Every task as an arm of one sweep, with its data in each mode, run as a user runs it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fpt_ray.tasks import TASKS
from tests.e2e.conftest import ROOT, Workplace, workplace_in

# Integration tests read every task's data in every mode, too, but train on none of them.
pytestmark = pytest.mark.long

# More steps than the 32 whose sequences are sorted by length together.
SWEEP = """\
task: {{name: bit_xor}}
data: {{dir: my data, mode: {mode}}}
model: {{backbone: tiny-gpt2, init: random, trained: [input, output, layer_norm, positions]}}
training: {{batch_size: 4, max_steps: 70, eval_every: 35, validation_size: 20, test_size: 20}}
compare:
  task:
    bit_xor: {{task: {{name: bit_xor}}}}
    bit_memory: {{task: {{name: bit_memory, patterns: 2, length: 40, token_bits: 10}}}}
    listops: {{task: {{name: listops, max_length: 24, max_depth: 4, train_size: 200}}}}
    listops, drawn in trials:
      task: {{name: listops, max_length: 32, max_depth: 4, train_size: 200}}
      data.mode: {drawn}
    listops of the arena: {{task: {{name: listops, origin: lra, max_length: 40}}}}
    mnist: {{task: {{name: mnist, augment: true}}}}
    cifar10: {{task: {{name: cifar10}}}}
    cifar10_lra: {{task: {{name: cifar10_lra, patch_size: 4}}}}
    remote_homology: {{task: {{name: remote_homology, max_length: 32}}}}
final: {{seeds: 1}}
"""
NUM_ARMS = 9


@dataclass(frozen=True)
class Done:
    """What a sweep printed: its JSON document, and its progress."""

    document: dict[str, Any]
    progress: str


@dataclass(frozen=True)
class Both:
    """One workplace, in which the same trials got their data in the default modes and streamed."""

    place: Workplace
    auto: Done
    streaming: Done


def run(place: Workplace, name: str, **modes: str) -> Done:
    file = place.folder / f"{name}.yaml"
    file.write_text(SWEEP.format(**modes))
    done = place.run(file, "--json")
    return Done(json.loads(done.stdout), done.stderr)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with workplace_in(tmp_path_factory.mktemp("tasks")) as place:
        place.copy_data("my data")
        auto = run(place, "auto", mode="auto", drawn="generated")
        streaming = run(place, "streaming", mode="streaming", drawn="streaming")
        yield Both(place, auto, streaming)


def modes_told(done: Done) -> set[str]:
    lines = done.progress.splitlines()
    return {line.rsplit(" ", 1)[-1] for line in lines if line.startswith("data: ")}


def test_a_sweep_of_every_task_runs_in_every_mode(both: Both) -> None:
    assert modes_told(both.auto) == {"generated", "materialized"}
    assert modes_told(both.streaming) == {"streaming"}
    for done in (both.auto, both.streaming):
        rows = done.document["arms"]
        assert len(rows) == NUM_ARMS
        assert {row["task"].split()[0] for row in rows} == set(TASKS)
        assert all(row["statuses"] == {"finished": 1} for row in rows)


def test_a_trial_computes_the_same_in_every_mode(both: Both) -> None:
    auto, streaming = both.place.table("auto"), both.place.table("streaming")
    assert len(auto) == NUM_ARMS
    assert all(math.isfinite(row["test_loss"]) for row in auto)
    assert len({row["validation_loss"] for row in auto}) == NUM_ARMS
    # Engines leave one core to Ray Data while it streams, and the number of threads rounds losses.
    for ours, theirs in zip(auto, streaming, strict=True):
        for name in ("validation_loss", "test_loss"):
            assert ours.pop(name) == pytest.approx(theirs.pop(name), rel=1e-5)
    assert auto == streaming


def test_arms_of_different_tasks_are_reported_in_blocks(both: Both) -> None:
    assert all(row["difference"] is None for row in both.auto.document["arms"])
    summary = (both.place.folder / "runs" / "auto" / "report" / "summary.md").read_text()
    headings = [line for line in summary.splitlines() if line.startswith("### ")]
    assert len(headings) == NUM_ARMS
    assert "Arms with different tasks are not compared." in summary


def test_proteins_that_are_not_read_are_told(both: Both) -> None:
    (row,) = (r for r in both.auto.document["arms"] if r["arm"] == "remote_homology")
    told = f"{row['test_skipped']} of {row['test_size']} test sequences were longer than the task's"
    assert row["test_skipped"] > 0
    assert told in (both.place.folder / "runs" / "auto" / "report" / "summary.md").read_text()


def test_data_are_prepared_once_beside_the_raw_files(both: Both) -> None:
    prepared = {folder.name for folder in (both.place.folder / "my data" / "prepared").iterdir()}
    names = [name.rpartition("-")[0] for name in sorted(prepared)]
    assert names == ["cifar10", "listops", "listops", "listops_lra", "mnist", "remote_homology"]
    assert both.auto.progress.count("preparing ") == 5
    assert both.streaming.progress.count("preparing ") == 1
    again = both.place.command("data", "prepare", "cifar10_lra", "--dir", "my data")
    assert "is complete: nothing to do" in again.stderr
    assert not (ROOT / "tests" / "data" / "prepared").exists()


def test_what_a_trial_sees_can_be_exported(both: Both, tmp_path: Path) -> None:
    file = tmp_path / "seen.parquet"
    task = ("--set", "task.max_length=32", "--set", "training.batch_size=4")
    split = ("--split", "train", "--rows", "6", "--out", file)
    both.place.command("data", "export", "remote_homology", "--dir", "my data", *split, *task)
    rows = pq.read_table(file).to_pylist()
    assert [(row["step"], row["row"]) for row in rows] == [
        *((0, r) for r in range(4)),
        (1, 0),
        (1, 1),
    ]
    assert all(len(row["tokens"]) == len(row["mask"]) <= 32 for row in rows)
    assert all(0 <= token < 25 for row in rows for token in row["tokens"])
