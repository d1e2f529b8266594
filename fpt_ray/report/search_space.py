"""What the report says about tuned keys: names, ranges, and whether a value lies at an edge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

LEARNING_RATE = "training.learning_rate"
_CONTINUOUS = ("uniform", "log_uniform", "int_uniform")
_EDGE_SHARE = 0.05


def kind_and_bounds(domain: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Split a domain's JSON into its kind and its values (grid, choice) or its low and high bound.

    Raises:
        ValueError: if the JSON names no known kind.
    """
    for kind in ("grid", "choice", *_CONTINUOUS):
        if kind in domain:
            return kind, list(domain[kind])
    raise ValueError(f"not a search domain: {domain}")


def main_key(space: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Name the key to draw the search against: the learning rate, else the first one tuned."""
    return LEARNING_RATE if LEARNING_RATE in space else next(iter(space), None)


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a value is a number that can be ordered, which a boolean is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def wants_log_axis(domain: Mapping[str, Any]) -> bool:
    """Tell whether a key reads best on a log axis: it is searched so, or spans a factor of 10."""
    kind, values = kind_and_bounds(domain)
    if kind == "log_uniform":
        return True
    if not all(is_number(value) and value > 0 for value in values):
        return False
    return bool(max(values) >= 10 * min(values))


def edge(domain: Mapping[str, Any], value: object) -> str | None:
    """Tell whether a chosen value is at the ``lower`` or ``upper`` edge of what was searched.

    A best value at an edge may mean that a better one lies outside. Of a grid or a choice of
    numbers the outermost values count, of a continuous domain its outer twentieths (of the
    logarithm, where that is what is searched).

    Returns:
        ``lower``, ``upper``, or None for inside, and for values without order or a single value.
    """
    kind, values = kind_and_bounds(domain)
    if not (is_number(value) and all(is_number(each) for each in values)) or len(set(values)) < 2:
        return None
    place = _place(value, min(values), max(values), kind == "log_uniform")
    share = _EDGE_SHARE if kind in _CONTINUOUS else 1e-9
    if place <= share:
        return "lower"
    return "upper" if place >= 1 - share else None


def format_value(value: object) -> str:
    """Write a setting's value as a sweep file would, numbers short and exact."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:.4g}" if float(f"{value:.4g}") == value else repr(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(format_value(each) for each in value)}]"
    return str(value)


def format_values(values: Mapping[str, Any], separator: str = ", ") -> str:
    """Write chosen values as ``key=value`` pairs, each key by its last part."""
    pairs = (f"{key.rsplit('.', 1)[-1]}={format_value(each)}" for key, each in values.items())
    return separator.join(pairs)


def _place(value: float, low: float, high: float, logarithmic: bool) -> float:
    if logarithmic:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)
