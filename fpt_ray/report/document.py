"""The report as a program and a terminal read it: rows, one JSON document, one table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from fpt_ray.report.fairness import FairnessFinding
    from fpt_ray.report.published import BesidePublished
    from fpt_ray.report.results import ArmResult, SweepResult


@dataclass(frozen=True, slots=True)
class Report:
    """What a run directory says, computed once and written to its files."""

    result: SweepResult
    headline: tuple[str, ...]
    fairness: tuple[FairnessFinding, ...] = ()
    published: tuple[BesidePublished, ...] = ()

    @property
    def rows(self) -> tuple[ArmResult, ...]:
        """One row an arm, in the order of the final table."""
        return self.result.rows

    def to_json(self) -> dict[str, Any]:
        """Return the document behind ``--json``: shares in [0, 1], None for what is not known."""
        return {
            "sweep": self.result.name,
            "complete": self.result.complete,
            "missing": list(self.result.missing),
            "headline": list(self.headline),
            "reference": self.result.reference,
            "tests_read": sum(row.tests_read for row in self.rows),
            "arms": [
                {"task": block.task, **_plain(asdict(row))}
                for block in self.result.blocks
                for row in block.arms
            ],
            "fairness": [asdict(finding) for finding in self.fairness],
            "published": [asdict(block) for block in self.published],
        }

    def table(self) -> Table:
        """Return the final table for a terminal, the finding as its caption."""
        from rich.markup import escape
        from rich.table import Table

        from fpt_ray.report import wording
        from fpt_ray.report.search_space import format_values

        table = Table(title=escape(self.result.name), caption=escape(" ".join(self.headline)))
        for column in ("arm", "chosen", "seeds", "test accuracy, %", "difference, points", "p"):
            table.add_column(column, overflow="fold")
        for row in self.rows:
            difference = row.difference
            table.add_row(
                escape(row.arm),
                escape(format_values(row.values)),
                wording.seeds_done(row.statistics),
                escape(wording.estimate(row.statistics)),
                escape(wording.difference_to_reference(difference)),
                wording.probability(difference.p_holm if difference is not None else None),
            )
        return table


def _plain(value: Any) -> Any:
    """Give mappings text as keys, as JSON wants it."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value
