"""Which names may become directories, columns and labels."""

from __future__ import annotations

import re
from typing import Any

from fpt_ray.config.base import refusal

_DIRECTORY_NAME = re.compile(r"\w[\w.+@=,-]{0,127}")


def check_directory_name(name: str) -> str:
    """Return a name that can be a directory on every filesystem and in every URI.

    Raises:
        PydanticCustomError: if it cannot.
    """
    if not _DIRECTORY_NAME.fullmatch(name):
        raise refusal((), f"{name!r} cannot be the name of a directory", f"name: {slug(name)}")
    return name


def slug(text: str) -> str:
    """Make a directory name out of any text."""
    return re.sub(r"[^\w.+@=,-]+", "_", text).strip("_.-+")[:128] or "sweep"


def check_axes(compare: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return axes that all have labels, and only labels that can be parts of an arm's name.

    Raises:
        PydanticCustomError: if one has none, or one that cannot.
    """
    for axis, labels in compare.items():
        _check_label((axis,), "an axis")
        if not labels:
            raise refusal(
                (axis,), f"axis {axis!r} has no settings to compare", _EXAMPLE.format(axis)
            )
        for label in labels:
            _check_label((axis, label), "a label")
    return compare


_EXAMPLE = "{}: {{slow: {{training.learning_rate: 1e-4}}, fast: {{training.learning_rate: 1e-3}}}}"


def _check_label(path: tuple[str, ...], noun: str) -> None:
    label = path[-1]
    if not label.strip() or "/" in label or not label.isprintable():
        raise refusal(
            path,
            f"{label!r} cannot be {noun}: arms are named by their labels, joined by /",
            f"write {slug(label)}, for example",
        )
