"""Which trials may train in one pack."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from fpt_ray.config import ParameterRole, TrialSettings
from fpt_ray.models import Body
from fpt_ray.models.cuts import Cut
from fpt_ray.tasks import Task
from fpt_ray.training.features import Stores

LIGHT_GROUPS = ("input", "output", "layer_norm", "positions")
"""Groups that are small, so that trials that train them may pack with trials that do not."""

_OF_EACH_TRIAL = {"trained", "orthogonal_gain", "init"}


@dataclass(frozen=True, slots=True)
class PackKey:
    """What trials of one pack have in common; those with equal keys may be in one.

    Learning rate, clipping, seed, lengths, and which norms, positions and ends are trained are each
    trial's own.

    Attributes:
        task: settings and fingerprint of the task, sizes of its splits, and how data arrive.
        weights: hash of the body's weights; empty where all of them are trained.
        model: settings of the model, apart from those that only decide initial values.
        training: batch size, dropout, precision and Adam's constants.
        trained: names of the trained parameters of large groups.
        cut: where the highest cut below everything trained is; empty without one.
        kept: splits of which activations are kept.
    """

    task: str
    weights: str
    model: str
    training: str
    trained: frozenset[str]
    cut: str
    kept: tuple[str, ...]


def describe_task(settings: TrialSettings, task: Task) -> str:
    """Write down what decides a trial's examples, its seed aside."""
    training = settings.training
    described = {
        "settings": settings.task.model_dump(mode="json"),
        "data": settings.data.model_dump(mode="json"),
        "sizes": [training.validation_size, training.test_size],
        "fingerprint": task.fingerprint(),
    }
    return json.dumps(described, sort_keys=True)


def describe_model(settings: TrialSettings) -> str:
    """Write down what decides how a trial's model computes, its numbers aside."""
    described = settings.model.model_dump(mode="json", exclude=_OF_EACH_TRIAL)
    return json.dumps(described, sort_keys=True)


def describe_training(settings: TrialSettings) -> str:
    """Write down what trials that are updated together share."""
    fields = {"batch_size", "dropout", "precision", "optimizer"}
    return json.dumps(settings.training.model_dump(mode="json", include=fields), sort_keys=True)


def describe_weights(body: Body, seed: int, names: Iterable[str], trained: frozenset[str]) -> str:
    """Hash a body's weights; where all of its parameters are trained they are of no account.

    Args:
        body: the body.
        seed: the trial's seed, from which random weights are drawn.
        names: of the body's parameters.
        trained: names of the parameters that get updates.
    """
    return "" if trained.issuperset(names) else body.weights(seed).fingerprint()


def heavy(roles: Iterable[ParameterRole], trained: frozenset[str]) -> frozenset[str]:
    """Name the trained parameters of large groups."""
    return frozenset(r.name for r in roles if r.name in trained and r.group not in LIGHT_GROUPS)


def place_of(cut: Cut | None) -> str:
    """Say where a cut is."""
    return "" if cut is None else cut.place


def kept_in(stores: Stores) -> tuple[str, ...]:
    """Name the splits of which activations are kept."""
    by_split = {"train": stores.train, "validation": stores.validation}
    return tuple(split for split, store in by_split.items() if store is not None)
