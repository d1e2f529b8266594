"""What the settings' types say: which keys exist at a path, and which range a value has."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fpt_ray.config.base import KeyPath


@dataclass(frozen=True, slots=True)
class Spot:
    """What the schema knows about a location of a validation error.

    Attributes:
        path: the location without the tags of unions, as keys and positions in the file.
        field: the last field on the way; None if there is none of that name.
        annotation: the type of what stands there; None if unknown.
    """

    path: KeyPath
    field: FieldInfo | None
    annotation: Any


def find_spot(root: type[BaseModel], location: Sequence[str | int]) -> Spot:
    """Follow the location of a validation error through the schema."""
    spot = Spot((), None, root)
    for part in location:
        members = _members(spot.annotation)
        if len(members) > 1:
            spot = Spot(
                spot.path, spot.field, next((m for m in members if kind_of(m) == part), None)
            )
        else:
            spot = _step(spot, members[0] if members else None, part)
    return spot


def keys_at(annotation: Any) -> tuple[str, ...]:
    """List the keys that a section may have, of all its kinds if it has several."""
    models = [member for member in _members(annotation) if _is_model(member)]
    return tuple(dict.fromkeys(key for model in models for key in model.model_fields))


def kinds_with(annotation: Any, key: str) -> tuple[str, ...]:
    """Name the kinds of a section that have a key; none if it has no kinds with names."""
    models = [member for member in _members(annotation) if _is_model(member)]
    fields = [model.model_fields for model in models if len(models) > 1]
    return tuple(each["name"].default for each in fields if "name" in each and key in each)


def kind_of(model: Any) -> str | None:
    """Name the kind of a section that a model is for: its fixed name, or its first key."""
    fields = getattr(model, "model_fields", {})
    return fields["name"].default if "name" in fields else next(iter(fields), None)


def dotted_keys(root: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every dotted key below a section, sections before their keys."""
    for model in filter(_is_model, _members(root)):
        for name, info in model.model_fields.items():
            yield f"{prefix}{name}"
            yield from dotted_keys(info.annotation, f"{prefix}{name}.")


def leaf_keys(root: type[BaseModel]) -> tuple[str, ...]:
    """List the dotted keys that are no sections."""
    keys = tuple(dict.fromkeys(dotted_keys(root)))
    return tuple(key for key in keys if not any(one.startswith(f"{key}.") for one in keys))


def nearest(word: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Find the name that a misspelled word most likely means.

    Dotted keys are compared by their last part, those of the same section first, so that a key
    written without its section, or with a wrong one, is found too. Initials count as a name: lr.
    """
    names = tuple(dict.fromkeys(names))
    section, _, last = word.rpartition(".")
    siblings = tuple(name for name in names if name.rpartition(".")[0] == section)
    for candidates, least in ((siblings, cutoff), (names, max(cutoff, 0.75))):
        by_last = {name.rpartition(".")[2]: name for name in reversed(candidates)}
        by_initials = {_initials(part): part for part in by_last}
        near = difflib.get_close_matches(last, by_last, n=1, cutoff=least)
        if near or last in by_initials:
            return by_last[near[0] if near else by_initials[last]]
    return next(iter(difflib.get_close_matches(word, names, n=1, cutoff=0.8)), None)


def _initials(name: str) -> str:
    return "".join(part[:1] for part in name.split("_"))


def limits_of(field: FieldInfo | None) -> dict[str, float]:
    """Collect the limits of a field's numbers: ``gt``, ``ge``, ``lt`` and ``le``."""
    metadata = field.metadata if field else ()
    names = ("gt", "ge", "lt", "le")
    return {name: getattr(one, name) for one in metadata for name in names if hasattr(one, name)}


def describe_range(limits: Mapping[str, float]) -> str | None:
    """Describe limits, such as ``in [0, 1)``; None if there are none."""
    above = f"above {limits['gt']:g}" if "gt" in limits else None
    low = above or (f"at least {limits['ge']:g}" if "ge" in limits else None)
    if "lt" not in limits and "le" not in limits:
        return low
    left = f"({limits['gt']:g}" if "gt" in limits else f"[{limits.get('ge', 0):g}"
    right = f"{limits['lt']:g})" if "lt" in limits else f"{limits['le']:g}]"
    return f"in {left}, {right}"


def _step(spot: Spot, annotation: Any, part: str | int) -> Spot:
    path = (*spot.path, part)
    if _is_model(annotation):
        field = annotation.model_fields.get(part)
        return Spot(path, field, field.annotation if field else None)
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return Spot(path, None, arguments[1])
    if get_origin(annotation) is tuple and isinstance(part, int):
        return Spot(path, None, arguments[0])
    return Spot(path, None, None)


def _members(annotation: Any) -> tuple[Any, ...]:
    """List what an annotation may stand for, without Annotated and None."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        arguments = (arg for arg in get_args(annotation) if arg is not type(None))
        return tuple(member for arg in arguments for member in _members(arg))
    return () if annotation is None else (annotation,)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
