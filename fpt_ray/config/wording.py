"""Turn validation errors into findings: what is wrong and what to write instead."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fpt_ray.config.base import KeyPath
from fpt_ray.config.findings import Finding
from fpt_ray.config.schema import (
    Spot,
    describe_range,
    dotted_keys,
    find_spot,
    keys_at,
    kind_of,
    kinds_with,
    limits_of,
    nearest,
)


class Words(NamedTuple):
    """What is wrong, what to write instead, and the value that was meant (None if unclear)."""

    what: str
    fix: str
    meant: str | int | float | None = None


_EXAMPLES = {
    "task": "task: {name: bit_xor}",
    "model": "model: {backbone: minilm-l6, trained: [input, output, layer_norm]}",
    "backbone": "backbone: minilm-l6",
    "trained": "trained: [input, output, layer_norm]",
    "space": "space: {training.learning_rate: {grid: [1e-4, 1e-3, 1e-2]}}",
    "num_trials": "num_trials: 20",
    "arms": "arms: {ARM: ROW}",
    "grace_period": "grace_period: 250",
    "grid": "list at least one value, such as grid: [1e-4, 1e-3]",
    "choice": "list at least one value, such as choice: [fp32, bf16]",
}
_DOMAIN = "{grid: [1e-4, 1e-3]}; or choice, uniform, log_uniform, int_uniform"


def explain(error: ValidationError, root: type[BaseModel]) -> list[Finding]:
    """Explain everything that validation found.

    Args:
        error: the error of validating ``root``.
        root: the model that was validated.
    """
    return [_explain_one(details, root) for details in error.errors(include_url=False)]


def _explain_one(details: ErrorDetails, root: type[BaseModel]) -> Finding:
    spot = find_spot(root, details["loc"])
    path, kind = spot.path, details["type"]
    if kind == "refused":
        context = details["ctx"]
        involves = tuple((*path, *other) for other in context["involves"])
        path = (*path, *context["path"])
        return Finding(path, context["what"], context["fix"], involves=involves)
    if kind == "extra_forbidden":
        parent, section = (find_spot(root, details["loc"][:depth]) for depth in (-1, -2))
        if kinds := kinds_with(section.annotation, str(path[-1])):
            return _key_of_other_kinds(spot, parent, kinds)
        words = _unknown_key(spot, parent, root)
        return Finding(path, words.what, words.fix, at_key=True, meant=words.meant)
    if kind == "union_tag_invalid":
        path = (*path, "name")
    words = _WORDS.get(kind, _anything_else)(spot, details)
    return Finding(path, words.what, words.fix, meant=words.meant)


def _unknown_key(spot: Spot, parent: Spot, root: type[BaseModel]) -> Words:
    key, keys = str(spot.path[-1]), keys_at(parent.annotation)
    section = f"in {'.'.join(map(str, parent.path))}" if parent.path else "at the top"
    what = f"unknown key {key!r} {section}"
    same = [name for name in dotted_keys(root) if name.endswith(f".{key}")]
    if (near := nearest(key, keys)) and not same:
        return Words(what, f"{near}; keys {section} are {', '.join(keys)}", near)
    if elsewhere := next(iter(same), None) or nearest(key, dotted_keys(root), cutoff=0.8):
        return Words(what, f"{elsewhere}; keys {section} are {', '.join(keys)}")
    return Words(what, f"one of {', '.join(keys)}")


def _key_of_other_kinds(spot: Spot, parent: Spot, kinds: tuple[str, ...]) -> Finding:
    """Explain a key that a section would have if it were of another kind."""
    section, own = ".".join(map(str, parent.path)), kind_of(parent.annotation)
    fix = f"remove it: {own} has none, {' and '.join(kinds)} would"
    if len(parent.path) == 1:
        fix += (
            f"; where only {section}.name was changed, write {{{section}: {{name: {own}}}}}"
            " instead, which replaces the whole section"
        )
    fix += f"; keys of {own} are {', '.join(keys_at(parent.annotation))}"
    what = f"unknown key {spot.path[-1]!r} in {section}"
    named: KeyPath = (*parent.path, "name")
    return Finding(spot.path, what, fix, at_key=True, involves=(named,))


def _last(spot: Spot) -> str:
    return next((part for part in reversed(spot.path) if isinstance(part, str)), "the sweep file")


def _name(spot: Spot) -> str:
    """Name a value by its key, and one of a domain also by the key that it is for."""
    keys = [part for part in spot.path if isinstance(part, str)]
    if keys[1:] and keys[-1] == "name":
        return f"{keys[-2]}.name"
    return f"{keys[-1]} of {keys[-2]}" if "." in "".join(keys[-2:-1]) else _last(spot)


def _show(value: Any) -> str:
    """Write a value as YAML would, as far as that differs from Python."""
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def _number(spot: Spot, details: ErrorDetails) -> Words:
    value, whole = details["input"], details["type"].startswith("int")
    noun = "a whole number" if whole else "a number"
    number = _read_number(value)
    if isinstance(value, str) and number is not None and (number.is_integer() or not whole):
        what = f"{_name(spot)} must be {noun}, but {value!r} is text because of its quotes"
        return Words(what, f"remove the quotes: {value.strip()}", int(number) if whole else number)
    what = f"{_name(spot)} must be {noun}, not {_show(value)}"
    if whole and number is not None and number.is_integer():
        return Words(what, f"write it without point and exponent: {int(number)}", int(number))
    limits = describe_range(limits_of(spot.field))
    default = spot.field.default if spot.field else None
    example = f", such as {default}" if isinstance(default, int | float) else ""
    return Words(what, f"{noun}{f' {limits}' if limits else ''}{example}")


def _read_number(value: Any) -> float | None:
    """Read a float, also one in quotes; None if it is none, or not finite."""
    if not isinstance(value, str | float):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _limit(spot: Spot, details: ErrorDetails) -> Words:
    limits = describe_range(limits_of(spot.field) or details["ctx"])
    return Words(
        f"{_name(spot)} must be {limits}, not {_show(details['input'])}", f"a number {limits}"
    )


def _text(spot: Spot, details: ErrorDetails) -> Words:
    value = details["input"]
    scalar = isinstance(value, int | float) and not isinstance(value, bool)
    fix = f'put it in quotes: "{value}"' if scalar else "a word"
    return Words(f"{_name(spot)} must be text, not {value!r}", fix, f"{value}" if scalar else None)


def _literal(spot: Spot, details: ErrorDetails) -> Words:
    context = details["ctx"]
    choices = re.findall(r"'([^']*)'", context.get("expected") or context["expected_tags"])
    value = context.get("tag", details["input"])
    name = f"{_name(spot)}.name" if "tag" in context else _name(spot)
    near = nearest(str(value), choices, cutoff=0.4)
    ordered = sorted(choices, key=lambda choice: choice != near)
    return Words(f"{name} cannot be {_show(value)}", ", or ".join(ordered), near)


def _missing(spot: Spot, details: ErrorDetails) -> Words:
    if isinstance(spot.path[-1], int):
        return _pair(spot, details)
    name = _last(spot)
    return Words(f"{name} is missing", f"add {_EXAMPLES.get(name, f'{name}: ...')}")


def _tagless(spot: Spot, details: ErrorDetails) -> Words:
    if "name" in keys_at(spot.annotation):
        return Words(f"{_name(spot)} has no name", f"{_last(spot)}: {{name: ...}}")
    keys = details["input"] if isinstance(details["input"], dict) else {}
    near = next(filter(None, (nearest(str(key), keys_at(spot.annotation)) for key in keys)), None)
    what = f"{_name(spot)} needs values to search: {_show(details['input'])} is no domain"
    return Words(what, near or _DOMAIN)


def _list(spot: Spot, details: ErrorDetails) -> Words:
    value = details["input"]
    item = json.dumps(value) if isinstance(value, str | int | float) else "..."
    return Words(f"{_name(spot)} must be a list, not {_show(value)}", f"{_last(spot)}: [{item}]")


def _section(spot: Spot, details: ErrorDetails) -> Words:
    if details["input"] is None:
        return Words(f"{_name(spot)} is empty", f"remove {_name(spot)}, or write settings under it")
    what = f"{_name(spot)} must be settings (key: value), not {_show(details['input'])}"
    return Words(what, _EXAMPLES.get(_last(spot), f"{_last(spot)}: {{key: value}}"))


def _empty(spot: Spot, details: ErrorDetails) -> Words:
    return Words(
        f"{_name(spot)} is empty", _EXAMPLES.get(_last(spot), f"give {_last(spot)} a value")
    )


def _pair(spot: Spot, details: ErrorDetails) -> Words:
    return Words(f"{_name(spot)} takes a low and a high end", f"{_last(spot)}: [low, high]")


def _infinite(spot: Spot, details: ErrorDetails) -> Words:
    limits = describe_range(limits_of(spot.field))
    what = f"{_name(spot)} must be a finite number, not {_show(details['input'])}"
    return Words(what, f"a number{' ' + limits if limits else ''}")


def _anything_else(spot: Spot, details: ErrorDetails) -> Words:
    message = details["msg"]
    return Words(f"{_name(spot)} does not fit: {message}", f"not {_show(details['input'])}")


_WORDS: dict[str, Callable[[Spot, ErrorDetails], Words]] = {
    "float_type": _number,
    "int_type": _number,
    "greater_than": _limit,
    "greater_than_equal": _limit,
    "less_than": _limit,
    "less_than_equal": _limit,
    "string_type": _text,
    "literal_error": _literal,
    "union_tag_invalid": _literal,
    "missing": _missing,
    "union_tag_not_found": _tagless,
    "tuple_type": _list,
    "model_type": _section,
    "model_attributes_type": _section,
    "dict_type": _section,
    "too_short": _empty,
    "too_long": _pair,
    "string_too_short": _empty,
    "finite_number": _infinite,
}
