"""Weights that one of our own sweeps trained: from RUN_DIR#ARM to a backbone's parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from fpt_ray.config import CheckpointInit, FPTSettings, TrialSettings
from fpt_ray.config.schema import nearest
from fpt_ray.errors import CheckpointError, ModelError, RunDirectoryError
from fpt_ray.models import Backbone, BackboneChoice, find_backbone
from fpt_ray.models.weights import generated_weights
from fpt_ray.records import SweepRecord, TrialRecord, load_sweep_record
from fpt_ray.storage import RunDirectory
from fpt_ray.tasks import build_task
from fpt_ray.training.blobs import check_tensors, unpack

_TRAINED = "parameter/backbone."
"""How the trained parameters of a backbone are named in ``best.safetensors``."""
_MEND = "restore the file from a backup, or train that sweep again under another name"
_WORDS = {"num_hidden_layers": "layers", "max_position_embeddings": "positions"}
# Weights that are given are not drawn, so it does not matter how widely they would be.
_IRRELEVANT = "initializer_range"


@dataclass(frozen=True, slots=True)
class Donor:
    """The finalist whose backbone is taken.

    Attributes:
        init: how it is asked for.
        trial_id: its name in its run directory.
        seed: the seed that it was trained from.
        settings: what it was trained with.
        model: the same, as far as its model goes.
        backbone: its architecture.
        content: hash of its trained parameters' file.
    """

    init: CheckpointInit
    trial_id: str
    seed: int
    settings: TrialSettings
    model: FPTSettings
    backbone: Backbone
    content: str


def find_donated(model: FPTSettings, init: CheckpointInit, need_weights: bool) -> Backbone:
    """Find a backbone whose weights are those that a finished trial ended with.

    Trained parameters are those of its best evaluation; frozen ones are found or drawn as they
    were for it. They are put together once per node.

    Args:
        model: what asks for it.
        init: names the run directory and the arm of that trial.
        need_weights: False where only shapes matter; then nobody looks for the trial.

    Raises:
        ModelError: there is no such trial yet, its files are missing or damaged, or its backbone
            has another architecture.
    """
    backbone = _bare(model)
    if not need_weights:
        return backbone
    donor = find_donor(init)
    _check_architecture(donor, backbone)
    name = f"donated-{donor.trial_id}-{donor.content}"
    return replace(backbone, given=generated_weights(name, lambda: _collect(donor)))


def _bare(model: FPTSettings) -> Backbone:
    """Find a backbone's architecture; with this init nobody looks for published weights."""
    choice = BackboneChoice(model.backbone, "random", model.num_layers, model.extend_positions)
    return find_backbone(choice, need_weights=False)


def find_donor(init: CheckpointInit) -> Donor:
    """Find the arm's finalist with the best validation, once per process and state of the sweep.

    All finalists must have ended, so that the choice does not change while others start from it.

    Args:
        init: names the run directory and the arm.

    Raises:
        ModelError: there is no such trial yet, or its files are missing or damaged.
    """
    try:
        resolved = RunDirectory(init.run_dir).read_bytes(RunDirectory.RESOLVED)
        if resolved is None:
            raise _refusal(
                init,
                "there is no sweep in that directory",
                "give STORAGE/NAME of a sweep, and run that sweep first",
            )
        return _find_donor(init, resolved)
    except RunDirectoryError as error:
        problem = error.problem
        what = f"{problem.where}: {problem.what}" if problem.where else problem.what
        raise _refusal(init, what, problem.fix or _MEND) from error


@lru_cache(maxsize=16)
def _find_donor(init: CheckpointInit, resolved: bytes) -> Donor:
    run = RunDirectory(init.run_dir)
    trial = _best_finalist(load_sweep_record(run), init)
    settings = TrialSettings.model_validate(trial.settings)
    model = settings.model
    if not isinstance(model, FPTSettings):
        raise _refusal(
            init,
            f"the arm is of the model {model.name}, which has no backbone to start from",
            "name an arm whose model is fpt",
        )
    content = hashlib.blake2b(_read_best(init, trial.trial_id), digest_size=16).hexdigest()
    return Donor(init, trial.trial_id, trial.seed, settings, model, _bare(model), content)


def _best_finalist(sweep: SweepRecord, init: CheckpointInit) -> TrialRecord:
    arms = [arm.name for arm in sweep.arms]
    if init.arm not in arms:
        near = nearest(init.arm, arms)
        fix = f"{init.run_dir}#{near}; " if near else ""
        raise _refusal(
            init, f"that sweep has no arm {init.arm}", f"{fix}its arms are {', '.join(arms)}"
        )
    finalists, wanted = sweep.current_finalists(init.arm), len(sweep.final_seeds)
    ended = [trial for trial in finalists if trial.status != "running"]
    if not sweep.is_searched(init.arm):
        raise _refusal(
            init,
            "the arm's search has not ended, so its winner may still change",
            "run that sweep to its end first: the same command goes on with it",
        )
    if len(ended) < wanted:
        raise _refusal(
            init,
            f"{len(ended)} of the arm's {wanted} finalists have ended; the best of all is taken",
            "run that sweep to its end first: the same command goes on with it",
        )
    ranked = {
        (
            -trial.best.value(sweep.metric, sweep.direction),
            -trial.best.value("validation_loss", "min"),
            trial.trial_id,
        ): trial
        for trial in ended
        if trial.status == "finished" and trial.best is not None
    }
    if not ranked:
        statuses = ", ".join(sorted({trial.status for trial in ended}))
        raise _refusal(
            init, f"none of the arm's {wanted} finalists finished: {statuses}", "name another arm"
        )
    return ranked[min(ranked)]


def _read_best(init: CheckpointInit, trial_id: str) -> bytes:
    run = RunDirectory(init.run_dir)
    data = run.read_bytes(run.best_of(trial_id))
    if data is None:
        where = run.locate(run.best_of(trial_id))
        raise _refusal(init, f"the best finalist's parameters are missing: {where}", _MEND)
    return data


def _check_architecture(donor: Donor, backbone: Backbone) -> None:
    """Refuse a donor whose parameters would not fit, or would compute something else.

    Raises:
        ModelError: the architectures differ.
    """
    theirs = donor.backbone.family.architecture(donor.backbone.config)
    ours = backbone.family.architecture(backbone.config)
    odd = [
        f"{_WORDS.get(key, key)} {theirs.get(key)}, not {ours.get(key)}"
        for key in dict.fromkeys([*theirs, *ours])
        if key != _IRRELEVANT and theirs.get(key) != ours.get(key)
    ]
    if odd:
        keys = ("backbone", "num_layers", "extend_positions")
        shape = [f"{key}: {value}" for key in keys if (value := getattr(donor.model, key))]
        raise _refusal(
            donor.init,
            f"its backbone is not built as {backbone.choice.name} is: {'; '.join(odd[:3])}",
            f"build what it was trained with, model: {{{', '.join(shape)}}}",
        )


def _collect(donor: Donor) -> Mapping[str, Tensor]:
    """Put a donor's trained and frozen parameters together.

    Raises:
        ModelError: its trained parameters are damaged, or its frozen ones are not what they were.
    """
    try:
        blob = unpack(_read_best(donor.init, donor.trial_id), "best")
        expected = dict(donor.backbone.blueprint("eager").named_parameters())
        found = {
            name.removeprefix(_TRAINED): value
            for name, value in blob.tensors.items()
            if name.startswith(_TRAINED)
        }
        if expected.keys() - found.keys():
            found = {**_frozen(donor, blob.document["frozen"]), **found}
        check_tensors(found, expected)
    except CheckpointError as error:
        run = RunDirectory(donor.init.run_dir)
        where = run.locate(run.best_of(donor.trial_id))
        raise _refusal(donor.init, f"{where}: {error.problem.what}", _MEND) from error
    return found


def _frozen(donor: Donor, fingerprint: str) -> dict[str, Tensor]:
    """Find or draw the parameters that a donor did not train, and check that they are the same.

    Raises:
        ModelError: they are not what they were when it was trained.
    """
    # Building a model finds its body first, which may come from a donor: from here.
    from fpt_ray.training.build import build_model

    task, cpu = build_task(donor.settings), torch.device("cpu")
    model, found = build_model(donor.settings, donor.seed, task, cpu)
    if found != fingerprint:
        raise _refusal(
            donor.init,
            "the donor's frozen weights are no longer what they were in training",
            "restore the backbone that it was trained with; random weights need the versions of"
            " torch and transformers that environment.json names",
        )
    return {
        name: value.detach()
        for name, value in model.backbone.named_parameters()
        if not value.requires_grad
    }


def _refusal(init: CheckpointInit, what: str, fix: str) -> ModelError:
    return ModelError(f"checkpoint {init.checkpoint}: {what}", where="model.init", fix=fix)
