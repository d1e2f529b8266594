"""A sweep file as data that remember where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fpt_ray.config.base import KeyPath
from fpt_ray.errors import Problem

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands.

    Attributes:
        source: the file's path, or ``--set KEY=VALUE``.
        line: from 1; 0 if the source has no lines.
        column: from 1.
    """

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source

    @property
    def order(self) -> tuple[bool, int, int]:
        """What to sort places of one file by; sources without lines come last."""
        return not self.line, self.line, self.column


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something that is wrong: where, what, and what to write instead."""

    place: Place
    what: str
    fix: str

    def problem(self) -> Problem:
        """Convert to what an error holds."""
        return Problem(self.what, str(self.place), self.fix)


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the sweep file.

    Attributes:
        place: where the value starts.
        content: a scalar, the items of a list, or the entries of a mapping.
    """

    place: Place
    content: Scalar | list[Node] | dict[str, Entry]

    def plain(self) -> Any:
        """Convert to dictionaries, lists and scalars."""
        if isinstance(self.content, dict):
            return {key: entry.node.plain() for key, entry in self.content.items()}
        if isinstance(self.content, list):
            return [item.plain() for item in self.content]
        return self.content

    def put(self, path: tuple[str, ...], entry: Entry) -> Node:
        """Copy with one entry added or replaced, and with the mappings that lead to it made."""
        entries = dict(self.content) if isinstance(self.content, dict) else {}
        key, *rest = path
        if rest:
            inner = entries.get(key, Entry(entry.key, Node(entry.key, None)))
            entry = Entry(inner.key, inner.node.put(tuple(rest), entry))
        entries[key] = entry
        return Node(self.place, entries)

    def rename(self, path: KeyPath, name: str) -> Node:
        """Copy with one key renamed; unchanged if the path leads nowhere."""
        part, *rest = path
        if isinstance(self.content, list) and isinstance(part, int) and rest:
            items = enumerate(self.content)
            return Node(
                self.place,
                [item.rename(tuple(rest), name) if i == part else item for i, item in items],
            )
        if not isinstance(self.content, dict):
            return self
        entries: dict[str, Entry] = {}
        for key, entry in self.content.items():
            if key != part:
                entries[key] = entry
            elif rest:
                entries[key] = Entry(entry.key, entry.node.rename(tuple(rest), name))
            else:
                entries[name] = entry
        return Node(self.place, entries)


@dataclass(frozen=True, slots=True)
class Entry:
    """A value with the place of its key (of itself, where it has none)."""

    key: Place
    node: Node

    def find(self, path: KeyPath) -> tuple[Entry, int]:
        """Follow a path as far as it goes.

        Returns:
            The deepest entry on the path, and how many parts of the path lead to it.
        """
        entry, depth = self, 0
        for part in path:
            content = entry.node.content
            if isinstance(content, dict) and part in content:
                entry = content[str(part)]
            elif isinstance(content, list) and isinstance(part, int) and part < len(content):
                entry = Entry(content[part].place, content[part])
            else:
                break
            depth += 1
        return entry, depth
