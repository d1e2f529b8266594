"""Backbones that start from what one of our own sweeps trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow import fs
from safetensors.torch import save_file
from torch import Tensor

from fpt_ray.config import TrialSettings, trial_id
from fpt_ray.errors import ModelError
from fpt_ray.models import BackboneChoice, SequenceModel, find_backbone
from fpt_ray.records import EvaluationRecord
from fpt_ray.storage import RunDirectory, directory
from fpt_ray.tasks import build_task
from fpt_ray.training import build_trainer, describe, fingerprints
from fpt_ray.training.blobs import pack, unpack
from fpt_ray.training.build import build_model
from fpt_ray.training.donors import find_donor

MakeSettings = Callable[..., TrialSettings]
Weights = dict[str, Tensor]

WORSE, BEST = 11, 12
"""The seeds of each donor sweep's two finalists."""
MEASURES = {WORSE: (0.5, 0.6), BEST: (0.9, 0.1)}
"""Validation accuracy and loss that their logs tell."""


@dataclass
class DonorSweep:
    """A run directory as a driver leaves it, whose finalists were trained for real."""

    run: RunDirectory
    arm: str
    settings: TrialSettings
    metric: str = "validation_accuracy"
    direction: str = "max"
    bests: dict[int, bytes] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """What ``model.init.checkpoint`` is to be."""
        return f"{self.run.uri}#{self.arm}"

    def name_of(self, seed: int) -> str:
        """Name a finalist."""
        return trial_id(self.settings, seed, fingerprints(self.settings))

    def write_sweep(self, **changes: Any) -> None:
        """Write the sweep as understood."""
        dumped = self.settings.model_dump(mode="json")
        resolved = {
            "name": "first",
            "metric": self.metric,
            "direction": self.direction,
            "tune": None,
            "num_trials": 0,
            "final_seeds": list(MEASURES),
            "max_steps": self.settings.training.max_steps,
            "arms": [
                {"name": name, "labels": {}, "settings": dumped} for name in (self.arm, "other/arm")
            ],
        }
        self.run.write_json(RunDirectory.RESOLVED, resolved | changes)

    def train(self, index: int, seed: int) -> None:
        """Train a finalist and write its files, with measures of our choice in its log."""
        trainer = build_trainer(self.settings, seed)
        trainer.advance(self.settings.training.max_steps)
        config = {
            "trial_id": self.name_of(seed),
            "stage": "final",
            "arm": self.arm,
            "labels": {},
            "slot": index,
            "seed": seed,
            "seed_index": index,
            "values": {},
            "settings": self.settings.model_dump(mode="json"),
        }
        self.run.write_json(self.run.config_of(self.name_of(seed)), config)
        self.bests[seed] = trainer.best()
        self.run.write_bytes(self.run.best_of(self.name_of(seed)), self.bests[seed])
        self.log(seed, *MEASURES[seed])

    def log(self, seed: int, accuracy: float, loss: float, decision: Any = "finish") -> None:
        """Write a finalist's log of one evaluation; only one that finished is of full length."""
        step = self.settings.training.max_steps - (decision != "finish")
        record = EvaluationRecord(step, 0, decision, 0.1, loss, accuracy, 1.0, 1.0)
        self.run.write_bytes(self.run.log_of(self.name_of(seed)), record.to_line().encode())

    def trained(self, seed: int = BEST) -> Weights:
        """Read the trained parameters of a finalist's backbone."""
        tensors, prefix = unpack(self.bests[seed], "best").tensors, "parameter/backbone."
        return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


MakeSweep = Callable[..., DonorSweep]


@pytest.fixture
def make_sweep(tmp_path: Path, make_settings: MakeSettings) -> MakeSweep:
    """A function from settings to a finished donor sweep; it trains everything by default."""

    def make(name: str = "first", arm: str = "default", **values: Any) -> DonorSweep:
        everything = {} if "model" in values else {"model__trained": ["all"]}
        values = {"training__learning_rate": 0.01, **everything, **values}
        run = RunDirectory(tmp_path / "my runs" / name)
        sweep = DonorSweep(run, arm, make_settings(**values))
        sweep.write_sweep()
        for index, seed in enumerate(MEASURES):
            sweep.train(index, seed)
        return sweep

    return make


@pytest.fixture
def start(make_settings: MakeSettings) -> MakeSettings:
    """A function from a reference to settings of a trial that starts from it."""

    def make(reference: str, **values: Any) -> TrialSettings:
        return make_settings(model__init={"checkpoint": reference}, **values)

    return make


def build(settings: TrialSettings, seed: int = 3) -> SequenceModel:
    return build_model(settings, seed, build_task(settings), torch.device("cpu"))[0]


def initial(settings: TrialSettings) -> Weights:
    """Build a trial and copy its backbone as it is before training."""
    backbone = build(settings).backbone
    return {name: value.detach().clone() for name, value in backbone.named_parameters()}


def assert_equal(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    assert [n for n in found if not torch.equal(found[n], expected[n])] == []


def refusal(settings: TrialSettings) -> str:
    """Read with which words settings are refused, before training and when a trial is built."""
    messages = set()
    for refuse in (lambda: fingerprints(settings), lambda: build_trainer(settings, seed=0)):
        with pytest.raises(ModelError) as caught:
            refuse()
        messages.add(str(caught.value))
    (message,) = messages
    assert message.startswith(f"model.init: checkpoint {settings.model.init.checkpoint}: ")
    return message


def test_a_trial_starts_from_the_best_finalists_backbone(
    make_sweep: MakeSweep, start: MakeSettings
) -> None:
    sweep = make_sweep()
    assert_equal(initial(start(sweep.reference)), sweep.trained(BEST))
    worse, best = (sweep.trained(seed)["wpe.weight"] for seed in MEASURES)
    assert not torch.equal(worse, best)


def test_the_best_is_that_of_the_sweeps_own_metric(
    make_sweep: MakeSweep, start: MakeSettings
) -> None:
    sweep = make_sweep()
    sweep.metric, sweep.direction = "validation_loss", "min"
    sweep.write_sweep()
    sweep.log(BEST, accuracy=0.9, loss=0.7)
    assert_equal(initial(start(sweep.reference)), sweep.trained(WORSE))


def test_ties_go_to_the_smaller_loss_and_then_to_the_smaller_name(
    make_sweep: MakeSweep, start: MakeSettings
) -> None:
    sweep = make_sweep()
    sweep.log(WORSE, accuracy=0.9, loss=0.05)
    init = start(sweep.reference).model.init
    assert find_donor(init).seed == WORSE
    sweep.log(WORSE, *MEASURES[BEST])
    sweep.write_sweep(seed=1)
    assert find_donor(init).trial_id == min(sweep.name_of(seed) for seed in MEASURES)


def test_the_ends_are_drawn_as_ever(
    make_sweep: MakeSweep, start: MakeSettings, make_settings: MakeSettings
) -> None:
    started, drawn = (
        {n: v for n, v in build(settings).named_parameters() if not n.startswith("backbone.")}
        for settings in (start(make_sweep().reference), make_settings())
    )
    assert_equal(started, drawn)


def test_frozen_parameters_are_those_of_the_donors_own_seed(
    make_sweep: MakeSweep, start: MakeSettings
) -> None:
    sweep = make_sweep(model__trained=["output", "layer_norm"])
    own = find_backbone(BackboneChoice("tiny-gpt2", "random")).weights(BEST).tensors
    assert 0 < len(sweep.trained()) < len(own)
    assert_equal(initial(start(sweep.reference)), own | sweep.trained())


@pytest.mark.parametrize("init", ["pretrained", "statistics"])
def test_a_donor_may_have_started_from_published_weights(
    init: str, tmp_path: Path, make_sweep: MakeSweep, start: MakeSettings
) -> None:
    folder = str(tmp_path / "published")
    published = find_backbone(BackboneChoice("tiny-gpt2", "random"))
    published.config.save_pretrained(folder)
    save_file(dict(published.weights(1).tensors), f"{folder}/model.safetensors")
    trained = ["output", "positions"]
    sweep = make_sweep(model={"backbone": folder, "init": init, "trained": trained})
    own = find_backbone(BackboneChoice(folder, init)).weights(BEST).tensors
    assert_equal(initial(start(sweep.reference)), own | sweep.trained())


def test_a_donor_may_have_had_a_donor(make_sweep: MakeSweep, start: MakeSettings) -> None:
    first = make_sweep()
    init = {"checkpoint": first.reference}
    second = make_sweep("second", model__init=init, model__trained=["output", "positions"])
    assert second.trained().keys() == {"wpe.weight"}
    assert_equal(initial(start(second.reference)), first.trained() | second.trained())


def test_resized_backbones_are_taken_as_they_were_trained(
    make_sweep: MakeSweep, start: MakeSettings
) -> None:
    size = {"model__num_layers": 1, "model__extend_positions": 80}
    sweep = make_sweep(model__trained=["output", "layer_norm"], **size)
    taken = initial(start(sweep.reference, **size))
    own = find_backbone(BackboneChoice("tiny-gpt2", "random", 1, 80)).weights(BEST).tensors
    assert_equal(taken, own | sweep.trained())
    assert taken["wpe.weight"].shape == (80, 32)


def test_arms_may_have_slashes_in_their_names(make_sweep: MakeSweep, start: MakeSettings) -> None:
    sweep = make_sweep(arm="+positions/random")
    assert_equal(initial(start(sweep.reference)), sweep.trained())


def test_a_started_trial_trains_and_keeps_what_is_frozen(
    make_sweep: MakeSweep, start: MakeSettings
) -> None:
    settings = start(make_sweep().reference)
    trainer = build_trainer(settings, seed=0)
    trainer.advance(6)
    trainer.verify_frozen()
    again = build_trainer(settings, seed=0)
    again.load_state(trainer.state())


def test_a_trial_is_named_by_the_weights_and_not_by_their_place(
    make_sweep: MakeSweep, start: MakeSettings, tmp_path: Path
) -> None:
    sweep = make_sweep()
    moved = tmp_path / "elsewhere"
    shutil.copytree(sweep.run.uri, moved)
    here, there = start(sweep.reference), start(f"{moved}#default")
    assert trial_id(here, 0, fingerprints(here)) == trial_id(there, 0, fingerprints(there))
    other = start(make_sweep("other", training__learning_rate=0.02).reference)
    assert fingerprints(here)["backbone"] != fingerprints(other)["backbone"]


def test_a_relative_directory_counts_from_where_the_settings_are_read(
    make_sweep: MakeSweep, start: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep()
    monkeypatch.chdir(tmp_path)
    settings = start("my runs/first#default")
    monkeypatch.chdir("/")
    handed_out = TrialSettings.model_validate(settings.model_dump(mode="json"))
    assert_equal(initial(handed_out), sweep.trained())


def test_a_donor_may_lie_in_object_storage(
    make_sweep: MakeSweep, start: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep()
    bucket = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    opened = []

    def open_bucket(uri: str, error_type: object) -> tuple[fs.FileSystem, str]:
        opened.append(uri)
        return bucket, uri.removeprefix("s3://bucket/")

    monkeypatch.setattr(directory, "_filesystem", open_bucket)
    settings = start("s3://bucket/my runs/first#default")
    assert_equal(initial(settings), sweep.trained())
    assert set(opened) == {"s3://bucket/my runs/first"}


def test_weights_are_put_together_once_per_node(
    make_sweep: MakeSweep, start: MakeSettings, node_cache: Path
) -> None:
    sweep = make_sweep()
    for seed in (0, 1):
        build(start(sweep.reference), seed)
    (written,) = (node_cache / "weights").glob("donated-*.safetensors")
    assert written.name.startswith(f"donated-{sweep.name_of(BEST)}-")


def test_shapes_are_known_before_the_donor_is_trained(start: MakeSettings) -> None:
    settings = start("/nowhere/first#default")
    assert describe(settings).seq_length == 10
    told = refusal(settings)
    assert "there is no sweep in that directory" in told
    assert "fix: give STORAGE/NAME of a sweep, and run that sweep first" in told


def test_an_unknown_arm_is_told_with_the_nearest(
    make_sweep: MakeSweep, start: MakeSettings
) -> None:
    sweep = make_sweep()
    told = refusal(start(f"{sweep.run.uri}#defalt"))
    assert "that sweep has no arm defalt" in told
    assert f"fix: {sweep.run.uri}#default; its arms are default, other/arm" in told


def test_an_arm_whose_finalists_have_not_all_ended_is_refused(
    make_sweep: MakeSweep, start: MakeSettings
) -> None:
    sweep = make_sweep()
    told = refusal(start(f"{sweep.run.uri}#other/arm"))
    assert "0 of the arm's 2 finalists have ended; the best of all is taken" in told
    assert "fix: run that sweep to its end first" in told
    sweep.log(BEST, 0.9, 0.1, decision="continue")
    assert "1 of the arm's 2 finalists have ended" in refusal(start(sweep.reference))


def test_an_arm_whose_search_goes_on_is_refused(make_sweep: MakeSweep, start: MakeSettings) -> None:
    sweep = make_sweep()
    sweep.write_sweep(num_trials=1)
    told = refusal(start(sweep.reference))
    assert "the arm's search has not ended, so its winner may still change" in told


def test_an_arm_of_which_nothing_finished_is_refused(
    make_sweep: MakeSweep, start: MakeSettings
) -> None:
    sweep = make_sweep()
    sweep.log(WORSE, 0.5, 0.5, decision="diverge")
    assert_equal(initial(start(sweep.reference)), sweep.trained(BEST))
    sweep.log(BEST, 0.5, 0.5, decision="diverge")
    sweep.write_sweep(seed=1)
    told = refusal(start(sweep.reference))
    assert "none of the arm's 2 finalists finished: diverged\n  fix: name another arm" in told


def test_missing_parameters_are_told(make_sweep: MakeSweep, start: MakeSettings) -> None:
    sweep = make_sweep()
    best = sweep.run.best_of(sweep.name_of(BEST))
    sweep.run.delete(best)
    told = refusal(start(sweep.reference))
    assert f"the best finalist's parameters are missing: {sweep.run.uri}/{best}" in told
    assert "fix: restore the file from a backup" in told


@pytest.mark.parametrize("damage", ["cut", "other kind", "lacking", "other shape"])
def test_damaged_parameters_are_told(
    make_sweep: MakeSweep, start: MakeSettings, damage: str
) -> None:
    sweep = make_sweep()
    best = sweep.run.best_of(sweep.name_of(BEST))
    blob = unpack(sweep.bests[BEST], "best")
    name = "parameter/backbone.wpe.weight"
    data, what = {
        "cut": (sweep.bests[BEST][:-9], "the best checkpoint is damaged"),
        "other kind": (pack(blob.tensors, {"kind": "state"}), "this is a state checkpoint"),
        "lacking": (
            pack({n: v for n, v in blob.tensors.items() if n != name}, blob.document),
            "the checkpoint lacks tensor wpe.weight",
        ),
        "other shape": (
            pack({**blob.tensors, name: torch.zeros(3, 32)}, blob.document),
            "wpe.weight has the shape (3, 32), not (64, 32)",
        ),
    }[damage]
    sweep.run.write_bytes(best, data)
    told = refusal(start(sweep.reference))
    assert f"{sweep.run.uri}/{best}: " in told
    assert what in told
    assert "fix: restore the file from a backup" in told


def test_frozen_weights_that_have_changed_since_are_told(
    make_sweep: MakeSweep, start: MakeSettings, tmp_path: Path
) -> None:
    folder = tmp_path / "published"
    published = find_backbone(BackboneChoice("tiny-gpt2", "random"))
    published.config.save_pretrained(folder)
    save_file(dict(published.weights(1).tensors), folder / "model.safetensors")
    sweep = make_sweep(model={"backbone": str(folder), "trained": ["output"]})
    (folder / "model.safetensors").unlink()
    save_file(dict(published.weights(2).tensors), folder / "model.safetensors")
    told = refusal(start(sweep.reference))
    assert "the donor's frozen weights are no longer what they were in training" in told
    assert "fix: restore the backbone that it was trained with; random weights need" in told


def test_looking_again_reads_no_trial(
    make_sweep: MakeSweep, start: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = start(make_sweep().reference)
    expected = fingerprints(settings)
    read = []
    original = RunDirectory.read_bytes

    def noting(self: RunDirectory, relative: str) -> bytes | None:
        read.append(relative)
        return original(self, relative)

    monkeypatch.setattr(RunDirectory, "read_bytes", noting)
    assert fingerprints(settings) == expected
    assert read == [RunDirectory.RESOLVED]


def test_a_damaged_log_is_told(make_sweep: MakeSweep, start: MakeSettings) -> None:
    sweep = make_sweep()
    log = sweep.run.log_of(sweep.name_of(BEST))
    sweep.run.write_bytes(log, b"{")
    assert f"{log}:1: not the record of an evaluation" in refusal(start(sweep.reference))


def test_a_model_without_a_backbone_gives_none(make_sweep: MakeSweep, start: MakeSettings) -> None:
    sweep = make_sweep()
    lstm = sweep.settings.with_values({"model": {"name": "lstm"}}).model_dump(mode="json")
    config = sweep.run.config_of(sweep.name_of(BEST))
    sweep.run.write_json(config, sweep.run.read_json(config) | {"settings": lstm})
    told = refusal(start(sweep.reference))
    assert "the arm is of the model lstm, which has no backbone to start from" in told
    assert "fix: name an arm whose model is fpt" in told


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"num_layers": None}, "layers 1, not 2"),
        ({"num_layers": 1, "extend_positions": 70}, "positions 64, not 70"),
        ({"num_layers": 1, "backbone": "tiny-bert"}, "family gpt2, not bert"),
    ],
)
def test_another_architecture_is_refused(
    make_sweep: MakeSweep, start: MakeSettings, changes: dict[str, Any], what: str
) -> None:
    sweep = make_sweep(model__num_layers=1)
    values = {f"model__{key}": value for key, value in changes.items()}
    told = refusal(start(sweep.reference, **values))
    assert f"its backbone is not built as {changes.get('backbone', 'tiny-gpt2')} is: " in told
    assert what in told
    assert "fix: build what it was trained with, model: {backbone: tiny-gpt2, num_layers: 1}" in (
        told
    )
