"""What must hold for a model's ends, and for models without a backbone; all without torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from fpt_ray.config.base import KeyPath
from fpt_ray.config.findings import Finding
from fpt_ray.config.models import EndSettings, FPTSettings, LSTMSettings, NoBackboneSettings
from fpt_ray.config.selectors import ParameterRole, parse_selectors
from fpt_ray.config.settings import TrialSettings
from fpt_ray.config.shapes import known_shape
from fpt_ray.config.tasks import BitMemory, BitXor, ListOps, RemoteHomology, TaskSettings
from fpt_ray.errors import ModelError

CAUSAL_FAMILIES = ("gpt2", "llama")
"""Families of backbones whose tokens see only those before them."""

InputKind = Literal["features", "ids"]


def check_ends(settings: TrialSettings) -> Iterator[Finding]:
    """Find ends that do not fit the task, or what lies between them."""
    task, model = settings.task, settings.model
    yield from input_mistakes(model, input_kind(task))
    yield from read_mistakes(model, num_read(task), _is_causal(settings))


def check_baseline(model: LSTMSettings | NoBackboneSettings) -> Iterator[Finding]:
    """Find selectors that match nothing in a model without a backbone."""
    roles = baseline_roles(model)
    shaping = ("name", "num_layers", "layer_norm", "positions")
    involves: tuple[KeyPath, ...] = tuple(("model", key) for key in shaping)
    for index, text in enumerate(model.trained):
        try:
            for selector in parse_selectors([text]):
                selector.select(roles)
        except ModelError as error:
            lacks_positions = "positions" in text and getattr(model, "positions", True) is False
            fix = (
                "positions: true, or leave positions out" if lacks_positions else error.problem.fix
            )
            path: KeyPath = ("model", "trained", index)
            yield Finding(path, error.problem.what, fix or "trained: [all]", involves=involves)


def baseline_roles(model: LSTMSettings | NoBackboneSettings) -> tuple[ParameterRole, ...]:
    """List one parameter for each group and layer that a model without a backbone has."""
    outside, groups, num_layers = ["input", "output"], ["recurrent"], 0
    if isinstance(model, LSTMSettings):
        outside += ["positions"] if model.positions else []
        groups += ["layer_norm"] if model.layer_norm else []
        num_layers = model.num_layers
    layered = [(group, layer) for layer in range(num_layers) for group in groups]
    return (
        *(ParameterRole(group, group, None, 1) for group in outside),
        *(ParameterRole(f"{group}.{layer}", group, layer, 1) for group, layer in layered),
    )


def input_mistakes(ends: EndSettings, kind: InputKind, takes_ids: bool = True) -> Iterator[Finding]:
    """Find an input layer that does not fit what it reads, or what it writes to.

    Args:
        ends: the settings of the layers at the ends.
        kind: what the task's tokens are.
        takes_ids: whether what lies between the ends may stand behind an embedding.
    """
    path: KeyPath = ("model", "input_layer")
    involves: tuple[KeyPath, ...] = (("task", "name"), ("model", "name"), ("model", "backbone"))
    if kind == "features" and ends.input_layer == "embedding":
        what = "the task's tokens are features, and only ids can be embedded"
        yield Finding(path, what, "input_layer: auto", involves=involves[:1])
    if kind == "ids" and ends.input_layer != "linear" and not takes_ids:
        what = "the task's tokens are ids, which this backbone does not take"
        yield Finding(path, what, "input_layer: linear", involves=involves)


def read_mistakes(ends: EndSettings, num_read: int, causal: bool) -> Iterator[Finding]:
    """Find read tokens that cannot hold the answer.

    Args:
        ends: the settings of the layers at the ends.
        num_read: how many tokens the task asks about.
        causal: whether the tokens that are read see only those before them.
    """
    path: KeyPath = ("model", "read")
    if ends.read == "first" and causal:
        what = "the first tokens see none of the later ones in a model that reads left to right"
        involves: tuple[KeyPath, ...] = (("model", "name"), ("model", "backbone"))
        yield Finding(path, what, "read: last", involves=involves)
    if ends.read == "mean" and num_read > 1:
        what = f"the task asks about each of {num_read} tokens, which their mean cannot tell apart"
        yield Finding(path, what, "read: last", involves=(("task",),))


def input_kind(task: TaskSettings) -> InputKind:
    """Tell what a task's tokens are."""
    return "ids" if isinstance(task, ListOps | RemoteHomology) else "features"


def num_read(task: TaskSettings) -> int:
    """Count the tokens that a task asks about."""
    if isinstance(task, BitXor):
        return task.length
    return task.length // task.token_bits if isinstance(task, BitMemory) else 1


def _is_causal(settings: TrialSettings) -> bool:
    """Tell whether tokens see only those before them; False where that is not known."""
    model = settings.model
    if not isinstance(model, FPTSettings):
        return isinstance(model, LSTMSettings)
    try:
        shape = known_shape(model.backbone)
    except ModelError:
        return False
    return shape is not None and shape.family in CAUSAL_FAMILIES
