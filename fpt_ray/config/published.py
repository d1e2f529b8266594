"""Published numbers, from ``published.yaml``: what stands there, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import Field
from ruamel.yaml import YAML

from fpt_ray.config.base import Settings

Certainty = Literal["checked", "transcribed", "unverified"]
"""checked: confirmed by an independent source; transcribed: once, from the full text; unverified:
recalled only, and never printed."""

Unit = Literal["percent", "gradient_steps", "ratio"]


class PublishedSource(Settings):
    """A paper, and how it measured."""

    citation: str
    short: str
    """The citation's authors and year."""
    backbone: str
    """The backbone of its tables, where a row says no other."""
    num_seeds: int
    steps: str
    """How long it trained, in words."""
    protocol: str
    """How it chose and measured, in words."""
    inputs: dict[str, str] = Field(default_factory=dict)
    """Task to what its sequences were, where the paper says it."""


class _Exception(Settings):
    """What differs in one row, one task, or one cell of a table."""

    row: str | None = None
    task: str | None = None
    certainty: Certainty | None = None
    unit: Unit | None = None
    backbone: str | None = None
    quoted: str | None = None
    """Whose number it is, where the paper did not measure it itself."""

    def holds(self, row: str, task: str) -> bool:
        """Tell whether a cell is meant."""
        return self.row in (None, row) and self.task in (None, task)


@dataclass(frozen=True, slots=True)
class PublishedCell:
    """One published number.

    Attributes:
        value: in its unit; None where the table has no number.
        sem: standard error of the mean in the same unit, where it is published.
        unit: percent of test accuracy, gradient steps, or a plain ratio.
        certainty: how the number came here.
        backbone: the model that it was measured with.
        quoted: whose number it is, where the paper did not measure it itself; else None.
    """

    value: int | float | None
    sem: float | None
    unit: Unit
    certainty: Certainty
    backbone: str
    quoted: str | None = None


class PublishedTable(Settings):
    """One table of a paper: rows of task to value."""

    source: PublishedSource
    title: str
    certainty: Certainty
    unit: Unit = "percent"
    notes: tuple[str, ...] = Field(default=(), strict=False)
    """Caveats, and conflicts with other tables."""
    exceptions: tuple[_Exception, ...] = Field(default=(), strict=False)
    rows: dict[str, dict[str, int | float | tuple[float, float] | None]] = Field(strict=False)
    """Row to task to value, or to (mean, standard error of the mean); None for no number."""

    def cell(self, row: str, task: str) -> PublishedCell:
        """Look a number up; a row or task that the table lacks gives a cell without value."""
        value = self.rows.get(row, {}).get(task)
        mean, sem = value if isinstance(value, tuple) else (value, None)
        said: dict[str, Any] = {
            "unit": self.unit,
            "certainty": self.certainty,
            "backbone": self.source.backbone,
            "quoted": None,
        }
        for exception in self.exceptions:
            if exception.holds(row, task):
                said |= exception.model_dump(include=set(said), exclude_none=True)
        return PublishedCell(mean, sem, **said)


@cache
def published_tables() -> Mapping[str, PublishedTable]:
    """Read the shipped tables, by name; read once, and only where a sweep asks for them."""
    text = files("fpt_ray.config").joinpath("published.yaml").read_text(encoding="utf-8")
    document = YAML(typ="safe", pure=True).load(text)
    sources = document["sources"]
    return {
        name: PublishedTable.model_validate(
            {**table, "source": sources[table["source"]]}, strict=False
        )
        for name, table in document["tables"].items()
    }
