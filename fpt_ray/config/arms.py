"""The arms of a sweep: the full product of the axes of ``compare``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fpt_ray.config.settings import TrialSettings

Axes = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Arm:
    """One combination of the ``compare`` axes."""

    name: str
    """The labels joined by "/", as in ``+positions/pretrained``; ``default`` if there are none."""
    labels: Mapping[str, str]
    """Axis to label, in file order."""
    settings: TrialSettings


def combinations(compare: Axes) -> Iterator[dict[str, str]]:
    """Yield axis to label for every arm, the last axis changing fastest."""
    for labels in itertools.product(*compare.values()):
        yield dict(zip(compare, labels, strict=True))


def arm_name(labels: Mapping[str, str]) -> str:
    """Name the arm that has these labels."""
    return "/".join(labels.values()) or "default"


def arm_values(compare: Axes, labels: Mapping[str, str]) -> dict[str, Any]:
    """Collect what an arm sets, dotted key to value; where two axes set one key, the later wins."""
    return {
        key: value for axis, label in labels.items() for key, value in compare[axis][label].items()
    }


def build_arm(base: TrialSettings, compare: Axes, labels: Mapping[str, str]) -> Arm:
    """Build the arm that has these labels.

    Raises:
        pydantic.ValidationError: if its settings do not fit together.
    """
    return Arm(arm_name(labels), labels, base.with_values(arm_values(compare, labels)))
