"""Apply ``--set KEY=VALUE`` to a sweep file's data."""

from __future__ import annotations

import re

from fpt_ray.config.document import Complaint, Entry, Node, Place
from fpt_ray.config.schema import leaf_keys
from fpt_ray.config.settings import TrialSettings
from fpt_ray.config.yaml_source import parse_yaml
from fpt_ray.errors import SweepFileError

_PART = r"\"[^\"]*\"|'[^']*'|[^.\"'=]+"
_OVERRIDE = re.compile(rf"\s*((?:{_PART})(?:\.(?:{_PART}))*)\s*=(.*)", re.DOTALL)


def apply_override(document: Node, text: str) -> tuple[Node, list[Complaint]]:
    """Set one value.

    Args:
        document: the sweep file's data.
        text: ``KEY=VALUE``. The key is dotted; parts that hold dots may be quoted, or are found
            among the keys that exist. The value is YAML.

    Returns:
        The changed data (unchanged if the text cannot be applied), and what is wrong with the text.
    """
    place = Place(f"--set {text}")
    match = _OVERRIDE.fullmatch(text)
    if not match:
        fix = "--set training.max_steps=100"
        return document, [Complaint(place, "this is not KEY=VALUE", fix)]
    try:
        value, problems = parse_yaml(match.group(2), place.source, has_lines=False)
        parts = [part.strip() for part in re.findall(_PART, match.group(1))]
        path = _split(document, parts)
        blocker = _find_blocker(document, path)
        if blocker:
            what = f"{blocker} is a value and has no keys below it"
            fix = f"--set {blocker}={match.group(2)}"
            return document, [*problems, Complaint(place, what, fix)]
        return document.put(path, Entry(place, value)), problems
    except SweepFileError as error:
        return document, [
            Complaint(place, problem.what, problem.fix or "") for problem in error.problems
        ]


def _find_blocker(document: Node, path: tuple[str, ...]) -> str | None:
    """Find the scalar or list that stands where a path needs a mapping."""
    entry, depth = Entry(document.place, document).find(path[:-1])
    content = entry.node.content
    blocked = depth > 0 and content is not None and not isinstance(content, dict)
    return ".".join(path[:depth]) if blocked else None


def _split(document: Node, parts: list[str]) -> tuple[str, ...]:
    """Group the parts of a key: the longest key that exists wins, since keys may hold dots."""
    path: list[str] = []
    node: Node | None = document
    while parts:
        count = _count_parts(node, path, parts)
        path.append(".".join(part.strip("\"'") for part in parts[:count]))
        entries = node.content if node and isinstance(node.content, dict) else {}
        node = entries[path[-1]].node if path[-1] in entries else None
        parts = parts[count:]
    return tuple(path)


def _count_parts(node: Node | None, path: list[str], parts: list[str]) -> int:
    holds_dotted_keys = path == ["tune", "space"] or (len(path) == 3 and path[0] == "compare")
    known = set(leaf_keys(TrialSettings)) if holds_dotted_keys else set()
    known |= set(node.content) if node and isinstance(node.content, dict) else set()
    quoted = parts[0].startswith(("'", '"'))
    for count in range(1 if quoted else len(parts), 0, -1):
        if ".".join(parts[:count]) in known:
            return count
    return len(parts) if holds_dotted_keys and not quoted else 1
