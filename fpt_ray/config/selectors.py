"""Selectors: which parameters of a model are trained.

    selector    = term { "-" term }             "all - attention[0:3]"
    term        = "all" | group [ "[" layers "]" ]
    layers      = index | [first] ":" [last]    as in Python: -1 is the last, a range omits its end

A list of selectors means their union.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fpt_ray.errors import ModelError

LAYERED_GROUPS = ("layer_norm", "attention", "feed_forward", "recurrent")
GROUPS = ("input", "output", "positions", *LAYERED_GROUPS, "other")

_TERM = re.compile(r"(\w+)\s*(?:\[([^\]]*)\])?")
_LAYERS = re.compile(r"\s*(-?\d+)\s*|\s*(-?\d+)?\s*(:)\s*(-?\d+)?\s*")


@dataclass(frozen=True, slots=True)
class ParameterRole:
    """What a parameter is for.

    Attributes:
        name: its name in the model.
        group: one of GROUPS.
        layer: the block it belongs to, from 0; None outside the blocks, such as for positions.
        numel: how many numbers it holds.
    """

    name: str
    group: str
    layer: int | None
    numel: int


@dataclass(frozen=True, slots=True)
class Term:
    """One group, or all of them, and optionally some of its layers.

    Attributes:
        group: one of GROUPS, or ``all``.
        layers: an index, a slice, or None for the whole group.
    """

    group: str
    layers: int | slice | None = None

    def select(self, parameters: Sequence[ParameterRole]) -> frozenset[str]:
        """Name the parameters that the term matches."""
        layers = None if self.layers is None else self._pick(num_layers(parameters))
        return frozenset(
            parameter.name
            for parameter in parameters
            if self.group in ("all", parameter.group)
            and (layers is None or parameter.layer in layers)
        )

    def _pick(self, count: int) -> range:
        if isinstance(self.layers, slice):
            return range(count)[self.layers]
        index = self.layers if self.layers is not None else 0
        index += count if index < 0 else 0
        return range(index, index + 1) if 0 <= index < count else range(0)


@dataclass(frozen=True, slots=True)
class Selector:
    """A term, less what other terms match."""

    text: str
    term: Term
    minus: tuple[Term, ...] = ()

    def select(self, parameters: Sequence[ParameterRole]) -> frozenset[str]:
        """Name the parameters that the selector matches.

        Raises:
            ModelError: if the selector, or one of its terms, matches nothing.
        """
        matches = [term.select(parameters) for term in (self.term, *self.minus)]
        selected = matches[0].difference(*matches[1:])
        if not selected or not all(matches):
            raise ModelError(
                f"selector {self.text!r} matches nothing", fix=_describe_choices(self, parameters)
            )
        return selected


def parse_selectors(texts: Sequence[str]) -> tuple[Selector, ...]:
    """Parse selectors as they stand in ``model.trained``.

    Raises:
        ModelError: if a text is not a selector, or names a group that does not exist.
    """
    return tuple(_parse_selector(text) for text in texts)


def resolve(texts: Sequence[str], parameters: Sequence[ParameterRole]) -> frozenset[str]:
    """Name the parameters that a list of selectors matches together.

    Raises:
        ModelError: if a selector is malformed or matches nothing; it names the selector.
    """
    return frozenset().union(*(selector.select(parameters) for selector in parse_selectors(texts)))


def num_layers(parameters: Sequence[ParameterRole]) -> int:
    """Count the blocks that parameters belong to."""
    return 1 + max((role.layer for role in parameters if role.layer is not None), default=-1)


def _parse_selector(text: str) -> Selector:
    # A minus sign inside brackets is a negative layer, any other one subtracts.
    first, *rest = (_parse_term(part, text) for part in re.split(r"-(?![^\[]*\])", text))
    return Selector(text, first, tuple(rest))


def _parse_term(part: str, text: str) -> Term:
    match = _TERM.fullmatch(part.strip())
    if not match:
        raise ModelError(f"{text!r} is not a selector", fix=_EXAMPLES)
    group, layers = match.groups()
    if group not in (*GROUPS, "all"):
        near = difflib.get_close_matches(group, (*GROUPS, "all"), n=1, cutoff=0.4)
        fix = f"{near[0]}; " if near else ""
        raise ModelError(
            f"{group!r} is not a parameter group", fix=f"{fix}groups are {', '.join(GROUPS)}, all"
        )
    if layers is None:
        return Term(group)
    if group not in LAYERED_GROUPS:
        raise ModelError(f"{text!r}: {group} has no layers to choose from", fix=group)
    return Term(group, _parse_layers(layers, text))


def _parse_layers(layers: str, text: str) -> int | slice:
    match = _LAYERS.fullmatch(layers)
    if not match:
        raise ModelError(f"{text!r}: {layers!r} is neither a layer nor a range", fix=_EXAMPLES)
    index, first, colon, last = match.groups()
    if colon:
        return slice(int(first) if first else None, int(last) if last else None)
    return int(index)


def _describe_choices(selector: Selector, parameters: Sequence[ParameterRole]) -> str:
    groups = {role.group for role in parameters}
    for term in (selector.term, *selector.minus):
        if term.group not in (*groups, "all"):
            why = _WITHOUT_POSITIONS if term.group == "positions" else ""
            return f"{why}this model's groups are {', '.join(g for g in GROUPS if g in groups)}"
        if not term.select(parameters):
            last = num_layers(parameters) - 1
            return f'{term.group} has layers 0 to {last}: "{term.group}[0]" or "{term.group}[-1]"'
    return "subtract less: nothing is left to train"


_WITHOUT_POSITIONS = (
    "leave positions out: this model has no table of them (rotary positions are fixed angles); "
)
_EXAMPLES = 'a group, "attention[-1]", "feed_forward[0:6]", "all" or "all - attention"'
