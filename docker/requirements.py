"""Print what pyproject.toml depends on, with the extra ``demo``: one requirement a line.

    python requirements.py              # all
    python requirements.py torch numpy  # these alone

It lets an image install dependencies before it has the source.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Collection
from pathlib import Path


def requirements(pyproject: str, names: Collection[str] = ()) -> list[str]:
    """List requirements.

    Args:
        pyproject: the text of a pyproject.toml.
        names: of the packages to list; none: all.

    Raises:
        ValueError: there is no requirement of such a name.
    """
    project = tomllib.loads(pyproject)["project"]
    found = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    by_name = {re.split(r"[^\w.-]", each, maxsplit=1)[0]: each for each in found}
    if unknown := set(names) - set(by_name):
        raise ValueError(f"pyproject.toml requires no {', '.join(sorted(unknown))}")
    return [by_name[name] for name in names] if names else found


if __name__ == "__main__":
    print(*requirements(Path("pyproject.toml").read_text("utf-8"), sys.argv[1:]), sep="\n")
