"""Read YAML 1.2 with the line and column of every key and value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.nodes import Node as YamlNode

from fpt_ray.config.document import Complaint, Entry, Node, Place, Scalar
from fpt_ray.config.yaml_mistakes import explain_mistake, place_in
from fpt_ray.errors import SweepFileError

_TAG_PREFIX = "tag:yaml.org,2002:"
# A date is text here: no setting is a date, and a name may look like one.
_TEXT_TAGS = ("str", "timestamp", "value")


def parse_yaml(text: str, source: str, *, has_lines: bool = True) -> tuple[Node, list[Complaint]]:
    """Parse one YAML document.

    Args:
        text: the document.
        source: what to call it in problems: the file's path, or the whole ``--set KEY=VALUE``.
        has_lines: whether problems name lines and columns of it.

    Returns:
        The document, and what is wrong with it though it could be read, such as repeated keys.

    Raises:
        SweepFileError: if it is not YAML.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
        reader = _Reader(yaml.constructor, lambda mark: _place(mark, source, has_lines))
        start = Place(source, 1, 1) if has_lines else Place(source)
        return (reader.read(root) if root else Node(start, None)), reader.complaints
    except MarkedYAMLError as error:
        place, what, fix = explain_mistake(error, text, source)
    except YAMLError as error:
        place = place_in(text, getattr(error, "position", 0), source)
        what, fix = f"not valid YAML: {str(error).splitlines()[0]}", "remove the character"
    except RecursionError:
        place, what, fix = Place(source, 1, 1), "the file is nested too deeply", "nest it less"
    complaint = Complaint(place if has_lines else Place(source), what, fix)
    raise SweepFileError((complaint.problem(),)) from None


def _place(mark: StringMark, source: str, has_lines: bool) -> Place:
    return Place(source, mark.line + 1, mark.column + 1) if has_lines else Place(source)


@dataclass
class _Reader:
    """Converts the parser's nodes, and collects what is wrong on the way."""

    constructor: Any
    locate: Callable[[StringMark], Place]
    complaints: list[Complaint] = field(default_factory=list)
    open_nodes: list[int] = field(default_factory=list)

    def read(self, node: YamlNode) -> Node:
        place = self.locate(node.start_mark)
        if id(node) in self.open_nodes:
            self.report(node, "an alias stands inside its own anchor", "write the value out")
            return Node(place, None)
        self.open_nodes.append(id(node))
        try:
            return Node(place, self.content(node))
        finally:
            self.open_nodes.pop()

    def content(self, node: YamlNode) -> Scalar | list[Node] | dict[str, Entry]:
        if isinstance(node, MappingNode):
            return self.entries(node)
        if isinstance(node, SequenceNode):
            return [self.read(item) for item in node.value]
        return self.scalar(node)

    def entries(self, node: MappingNode) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or key.tag == f"{_TAG_PREFIX}merge":
                self.report(
                    key, "a key must be one word or text", "write every key out, without << or ?"
                )
            elif key.value in entries:
                first = entries[key.value].key
                lines = f" (lines {first.line} and {self.line(key)})" if first.line else ""
                self.report(key, f"key {key.value!r} is given twice{lines}", "remove one of them")
            else:
                place = self.locate(key.start_mark)
                # An absent value stands, for the parser, where the next key begins.
                is_absent = value.start_mark.index == value.end_mark.index
                entries[key.value] = Entry(
                    place, Node(place, None) if is_absent else self.read(value)
                )
        return entries

    def scalar(self, node: YamlNode) -> Scalar:
        kind = str(node.tag).removeprefix(_TAG_PREFIX)
        if kind in _TEXT_TAGS:
            return str(node.value)
        try:
            return _SCALARS[kind](self.constructor, node)
        except (KeyError, ValueError):
            self.report(
                node, f"{node.value!r} cannot be read as {kind}", "remove the tag before it"
            )
            return None

    def line(self, node: YamlNode) -> int:
        return self.locate(node.start_mark).line

    def report(self, node: YamlNode, what: str, fix: str) -> None:
        self.complaints.append(Complaint(self.locate(node.start_mark), what, fix))


_SCALARS: dict[str, Callable[[Any, YamlNode], Scalar]] = {
    "null": lambda constructor, node: None,
    "bool": lambda constructor, node: constructor.construct_yaml_bool(node),
    "int": lambda constructor, node: constructor.construct_yaml_int(node),
    "float": lambda constructor, node: float(constructor.construct_yaml_float(node)),
}
