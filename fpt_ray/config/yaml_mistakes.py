"""Say what is wrong with text that is not YAML, in the words of someone who writes sweep files."""

from __future__ import annotations

import re

from ruamel.yaml.error import MarkedYAMLError

from fpt_ray.config.document import Place

_SELECTOR = re.compile(r"\w[\w -]*\[-?\d*:?-?\d*\]")

_FIXES = (
    ("mapping values are not allowed", "check indentation and colons, here and in the line before"),
    ("expected ',' or ']'", "separate the items by commas and close the list with ]"),
    ("expected ',' or '}'", "separate the settings by commas and close them with }"),
    ("while scanning a quoted scalar", "close the quotes"),
    ("another document", "one file is one sweep: remove --- and what follows it"),
    ("undefined alias", "put text that starts with * in quotes"),
    ("that cannot start any token", "put the text in quotes"),
    ("could not find expected ':'", "write the line as key: value"),
    (
        "did not find expected <document start>",
        "check that the keys of a section are equally indented",
    ),
    ("expected the node content", "write a value, and close every bracket"),
    ("expected <block end>", "check that the keys of a section are equally indented"),
)


def explain_mistake(error: MarkedYAMLError, text: str, source: str) -> tuple[Place, str, str]:
    """Explain a syntax error.

    Args:
        error: the parser's error.
        text: the document.
        source: what to call it.

    Returns:
        Where it is, what is wrong, and how to mend it.
    """
    unclosed = "end" in (error.problem or "") and "stream" in (error.problem or "")
    mark = (error.context_mark if unclosed else None) or error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    lines = text.splitlines()
    line_text = lines[line] if line < len(lines) else ""
    for match in _SELECTOR.finditer(line_text):
        if match.start() <= column < match.end():
            what = f"a selector with brackets needs quotes in a list: {match.group()}"
            fix = f'quote selectors: "{match.group()}"'
            return Place(source, line + 1, match.start() + 1), what, fix
    if line_text[column : column + 1] == "\t":
        return (
            Place(source, line + 1, column + 1),
            "a tab cannot indent a line",
            "replace the tab by spaces",
        )
    message = f"{error.context or ''} {error.problem or ''}".strip()
    fix = next((fix for part, fix in _FIXES if part in message), "check brackets and indentation")
    return Place(source, line + 1, column + 1), f"not valid YAML: {message}", fix


def place_in(text: str, position: int, source: str) -> Place:
    """Convert a position in a text, in characters from 0, to line and column."""
    before = text[:position]
    return Place(source, before.count("\n") + 1, position - before.rfind("\n"))
