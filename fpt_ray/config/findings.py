"""What is wrong with settings, and where in the sweep file that stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fpt_ray.config.base import KeyPath
from fpt_ray.config.document import Entry, Place


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with settings.

    Attributes:
        path: the value at fault, as keys and positions.
        what: what is wrong.
        fix: what to write instead.
        at_key: whether the key is at fault, not its value.
        involves: other values that the verdict rests on.
        meant: the key or value that was most likely meant; None if that cannot be guessed.
    """

    path: KeyPath
    what: str
    fix: str
    at_key: bool = False
    involves: tuple[KeyPath, ...] = ()
    meant: str | int | float | None = None

    def rests_on(self, paths: Iterable[KeyPath]) -> bool:
        """Tell whether the verdict rests on one of these values, or on what is in or around it."""
        own = (self.path, *self.involves)
        return any(path[: len(one)] == one[: len(path)] for path in paths for one in own)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where settings below a path were written.

    Attributes:
        prefix: the path that the entry sets; () for the whole file.
        entry: what sets it.
        level: 0 for the file's sections, 1 for an arm, 2 for a search; a higher level overrules.
    """

    prefix: KeyPath
    entry: Entry
    level: int = 0


@dataclass(frozen=True, slots=True)
class Located:
    """Something that is wrong, and the place to blame."""

    place: Place
    finding: Finding


def locate(finding: Finding, origins: Sequence[Origin]) -> Located:
    """Find the place to blame: what stands at the highest level that the finding rests on.

    Args:
        finding: what is wrong.
        origins: where the settings come from, the one that overrules all others last.
    """
    candidates = [
        (origin.level, depth == len(rest), entry)
        for path in (finding.path, *finding.involves)
        for origin in [_setter(path, origins)]
        for rest in [path[len(origin.prefix) :]]
        for entry, depth in [origin.entry.find(rest)]
    ]
    # Equal candidates: the first, which is the finding's own path.
    _, is_written, entry = max(candidates, key=lambda candidate: candidate[:2])
    at_value = is_written and not finding.at_key
    return Located(entry.node.place if at_value else entry.key, finding)


def _setter(path: KeyPath, origins: Sequence[Origin]) -> Origin:
    """Find what set a path: the last origin that leads to it."""
    return next(each for each in reversed(origins) if path[: len(each.prefix)] == each.prefix)
