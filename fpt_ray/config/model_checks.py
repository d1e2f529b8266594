"""What must hold between a trial's task, data and backbone, as far as it is known without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fpt_ray.config.backbones import UNTRAINED, BackboneShape
from fpt_ray.config.base import KeyPath
from fpt_ray.config.baseline_checks import check_baseline, check_ends, input_kind, input_mistakes
from fpt_ray.config.findings import Finding
from fpt_ray.config.models import FPTSettings
from fpt_ray.config.selectors import parse_selectors
from fpt_ray.config.settings import TrialSettings
from fpt_ray.config.shapes import known_shape
from fpt_ray.config.tasks import data_modes
from fpt_ray.errors import ModelError

_BACKBONE: KeyPath = ("model", "backbone")
_LENGTH_KEYS = {
    "bit_xor": ("task", "length"),
    "bit_memory": ("task", "length"),
    "mnist": ("task", "patch_size"),
    "cifar10": ("task", "patch_size"),
    "cifar10_lra": ("task", "patch_size"),
    "listops": ("task", "max_length"),
    "remote_homology": ("task", "max_length"),
}


def check_trial(settings: TrialSettings) -> Iterator[Finding]:
    """Find what does not fit together in the settings of one trial."""
    yield from _check_data(settings)
    yield from check_ends(settings)
    if isinstance(settings.model, FPTSettings):
        yield from _check_backbone(settings, settings.model)
    else:
        yield from check_baseline(settings.model)


def _check_backbone(settings: TrialSettings, model: FPTSettings) -> Iterator[Finding]:
    yield from _check_weights(model)
    try:
        shape = known_shape(model.backbone)
    except ModelError as error:
        yield _explain(error, _BACKBONE)
        shape = None
    if shape:
        yield from _check_layers(model, shape)
        yield from _check_positions(settings, model, shape)
        if not shape.takes_ids and input_kind(settings.task) == "ids":
            yield from input_mistakes(model, "ids", takes_ids=False)
    yield from _check_selectors(model, shape)


def _check_data(settings: TrialSettings) -> Iterator[Finding]:
    mode, modes = settings.data.mode, data_modes(settings.task)
    if mode not in ("auto", *modes):
        what = f"the data of {settings.task.name} cannot be {mode}"
        if "generated" in modes:
            what += ": they are drawn at random, without end"
        else:
            what += ": they are read from files"
        fix = f"mode: auto, or {' or '.join(modes)}"
        yield Finding(("data", "mode"), what, fix, involves=(("task", "name"),))


def _check_weights(model: FPTSettings) -> Iterator[Finding]:
    is_untrained = model.backbone in UNTRAINED and not Path(model.backbone).is_dir()
    if model.init in ("pretrained", "statistics") and is_untrained:
        what = f"{model.backbone} has no pretrained weights"
        yield Finding(("model", "init"), what, "init: random", involves=(_BACKBONE,))


def _check_layers(model: FPTSettings, shape: BackboneShape) -> Iterator[Finding]:
    if model.num_layers is not None and model.num_layers > shape.num_layers:
        what = f"num_layers is {model.num_layers}, but {model.backbone} has {shape.num_layers}"
        fix = f"num_layers: {shape.num_layers}"
        yield Finding(("model", "num_layers"), what, fix, involves=(_BACKBONE,))


def _check_positions(
    settings: TrialSettings, model: FPTSettings, shape: BackboneShape
) -> Iterator[Finding]:
    tokens = settings.task.seq_length
    extended: KeyPath = ("model", "extend_positions")
    if shape.num_positions is None:
        if model.extend_positions is not None:
            what = f"{model.backbone} takes sequences of any length: it has no table to extend"
            yield Finding(extended, what, "extend_positions: null", involves=(_BACKBONE,))
    elif model.extend_positions is not None and model.extend_positions < shape.num_positions:
        what = f"extend_positions {model.extend_positions} is less than the {shape.num_positions} "
        fix = f"extend_positions: null, or more than {shape.num_positions}"
        yield Finding(extended, f"{what}that {model.backbone} has", fix, involves=(_BACKBONE,))
    elif tokens > (model.extend_positions or shape.num_positions):
        has = (
            f"extend_positions is {model.extend_positions}"
            if model.extend_positions
            else (f"{model.backbone} has {shape.num_positions} positions")
        )
        what = f"a sequence of {settings.task.name} has {tokens} tokens, but {has}"
        path = _LENGTH_KEYS[settings.task.name]
        fix = f"a {path[-1]} that makes fewer tokens, or model.extend_positions: {tokens}"
        yield Finding(path, what, fix, involves=(("task",), _BACKBONE, extended))


def _check_selectors(model: FPTSettings, shape: BackboneShape | None) -> Iterator[Finding]:
    if shape and model.num_layers:
        shape = replace(shape, num_layers=min(model.num_layers, shape.num_layers))
    involves: tuple[KeyPath, ...] = (_BACKBONE, ("model", "num_layers"))
    for index, text in enumerate(model.trained):
        try:
            for selector in parse_selectors([text]):
                if shape:
                    selector.select(shape.roles())
        except ModelError as error:
            yield _explain(error, ("model", "trained", index), involves)


def _explain(error: ModelError, path: KeyPath, involves: tuple[KeyPath, ...] = ()) -> Finding:
    problem = error.problem
    return Finding(path, problem.what, problem.fix or "choose another", involves=involves)
