"""Every arm of every shipped sweep trains three steps; some sweeps run whole, as a user runs them.

Backbones are tiny ones of the same families and tasks are small, so that no hub is needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fpt_ray.config import identity, load_sweep
from fpt_ray.node_cache import CACHE_VARIABLE
from fpt_ray.training import build_trainer
from tests.e2e.conftest import ROOT, Workplace, workplace_in
from tests.e2e.shipped import SMALL_TRAINING, SWEEPS, shrunk, write_tiny_backbones

# Files whose arms run together as one sweep, because every start of Ray costs more than they do.
TOGETHER = (
    "paper/T15_cumulative_pretrained.yaml",
    "paper/T1_fpt_full_lstm.yaml",
    "paper/controls.yaml",
    "lr_fairness.yaml",
    "ends.yaml",
)
SMALL = (
    "training.max_steps=3",
    "training.eval_every=3",
    "training.batch_size=4",
    "training.validation_size=8",
    "training.test_size=8",
    "tune={space: {training.learning_rate: {grid: [1e-3]}}}",
    "final.seeds=1",
    "resources.pack=1",
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder / "cache"))
        yield write_tiny_backbones(folder)


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_arm_of_a_shipped_sweep_trains_three_steps(file: Path, tiny: dict[str, Path]) -> None:
    for arm in load_sweep(file).arms:
        trainer = build_trainer(shrunk(arm.settings, tiny), seed=0)
        evaluation = trainer.advance(3)
        assert (evaluation.step, evaluation.diverged) == (3, False), arm.name
        losses = (evaluation.train_loss, evaluation.validation_loss, trainer.test().loss)
        assert all(loss is not None and math.isfinite(loss) for loss in losses), arm.name
        assert trainer.num_trained_parameters > 0
        trainer.verify_frozen()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    with workplace_in(tmp_path_factory.mktemp("shipped")) as place:
        yield place


def run_small(place: Workplace, file: str, *settings: str) -> dict[str, Any]:
    """Run a shipped file with one rate, one seed and three steps; give what it prints."""
    options = [option for setting in (*SMALL, *settings) for option in ("--set", setting)]
    document = json.loads(place.run(ROOT / "sweeps" / file, "--json", *options).stdout)
    sweep = load_sweep(ROOT / "sweeps" / file)
    assert [row["arm"] for row in document["arms"]] == [arm.name for arm in sweep.arms]
    # One trial of the search and one finalist.
    assert all(row["statuses"] == {"finished": 2} for row in document["arms"])
    return document


@pytest.mark.long
def test_one_sweep_starts_from_the_winner_of_another(
    place: Workplace, tiny: dict[str, Path]
) -> None:
    backbone = f"model.backbone={tiny['gpt2']}"
    memory = "task={name: bit_memory, patterns: 2, length: 40, token_bits: 10}"
    run_small(place, "paper/T2_bit_memory_pretraining.yaml", memory, backbone)
    xor = "task={name: bit_xor, length: 2}"
    vision = f"compare.pretraining.vision.model.backbone={tiny['vit']}"
    run_small(place, "paper/T2_pretraining_modality.yaml", xor, backbone, vision)
    finalists = [t for t in place.table("T2_pretraining_modality") if t["stage"] == "final"]
    assert len({trial["test_loss"] for trial in finalists}) == len(finalists) == 4
    report = place.folder / "runs" / "T2_pretraining_modality" / "report" / "summary.md"
    assert "Lu et al. 2021" in report.read_text()


@pytest.mark.long
def test_arms_of_different_sweeps_run_whole(place: Workplace, tiny: dict[str, Path]) -> None:
    arms: dict[str, dict[str, Any]] = {}
    seen: list[dict[str, Any]] = []
    for file in TOGETHER:
        for arm in load_sweep(ROOT / "sweeps" / file).arms:
            small = shrunk(arm.settings, tiny)
            if identity(small) not in seen:
                seen.append(identity(small))
                sections = {key: small.compact()[key] for key in ("task", "model")}
                arms[f"{Path(file).stem} {arm.name}".replace("/", " ")] = sections
    document = {
        "task": {"name": "bit_xor"},
        "model": {"name": "no_backbone"},
        "data": {"dir": "data"},
        "training": SMALL_TRAINING,
        "compare": {"arm": arms},
        "final": {"seeds": 1},
        "resources": {"pack": 1},
    }
    place.copy_data("data")
    file = place.folder / "together.yaml"
    # JSON is YAML too.
    file.write_text(json.dumps(document))
    rows = json.loads(place.run(file, "--json").stdout)["arms"]
    assert {row["arm"] for row in rows} == set(arms)
    assert all(row["statuses"] == {"finished": 1} for row in rows)
