"""Published numbers beside ours: always marked as published, never mixed with ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fpt_ray.config.published import (
    PublishedSource,
    PublishedTable,
    published_tables,
)
from fpt_ray.records import ArmRecord, SweepRecord
from fpt_ray.report.arm_settings import backbone_name
from fpt_ray.report.results import ArmResult, Block, SweepResult
from fpt_ray.report.wording import (
    ABSENT,
    code,
    convergence_steps,
    estimate,
    markdown_table,
    plural,
)

CERTAINTY = {
    "checked": "transcribed and confirmed independently",
    "transcribed": "transcribed once, not confirmed",
    "unverified": "recalled only",
}
_OURS = {
    "percent": "ours, test accuracy, % [95 %]",
    "gradient_steps": "ours, steps to convergence, mean (range)",
    "ratio": "ours",
}
_PUBLISHED = {
    "percent": "published, test accuracy, %",
    "gradient_steps": "published, gradient steps",
    "ratio": "published, ratio",
}


@dataclass(frozen=True, slots=True)
class PublishedNumber:
    """A cell of a published table, and the arm of ours that the sweep file puts beside it.

    Attributes:
        arm: ours.
        table: the table's name.
        row: its row.
        source: the paper, in short.
        certainty: checked, transcribed or unverified.
        unit: percent, gradient_steps or ratio.
        value: the published number in its unit; None where there is none, or it is unverified.
        sem: its standard error, where that is published.
        backbone: what it was measured with.
        our_backbone: what ours was measured with.
        quoted: whose number it is, where the paper did not measure it itself; else None.
    """

    arm: str
    table: str
    row: str
    source: str
    certainty: str
    unit: str
    value: int | float | None
    sem: float | None
    backbone: str
    our_backbone: str
    quoted: str | None = None

    @property
    def is_withheld(self) -> bool:
        """Whether there is a number that is not sure enough to be printed."""
        return self.certainty == "unverified"


@dataclass(frozen=True, slots=True)
class BesidePublished:
    """What the sweep file puts beside the arms of one task.

    Attributes:
        task: as the block is called.
        numbers: one for each arm and table.
        notes: what a reader must know about the tables, and what was left out.
    """

    task: str
    numbers: tuple[PublishedNumber, ...]
    notes: tuple[str, ...]


def beside_published(record: SweepRecord, result: SweepResult) -> tuple[BesidePublished, ...]:
    """Look up what ``published`` of the sweep file names, block by block; () where it is not used.

    A table that this version does not know is told in a note.
    """
    asked: Sequence[Mapping[str, Any]] = record.resolved.get("published") or ()
    if not asked:
        return ()
    tables = published_tables()
    blocks = (_block(record, block, asked, tables) for block in result.blocks)
    return tuple(block for block in blocks if block.numbers or block.notes)


def _block(
    record: SweepRecord,
    block: Block,
    asked: Sequence[Mapping[str, Any]],
    tables: Mapping[str, PublishedTable],
) -> BesidePublished:
    arms = {arm.name: arm for arm in record.arms if arm.name in {row.arm for row in block.arms}}
    numbers = tuple(
        _number(arms[name], (each["table"], row), tables[each["table"]], block.task_name)
        for each in asked
        if each["table"] in tables
        for name, row in each["arms"].items()
        if name in arms
    )
    used = dict.fromkeys(each.table for each in numbers if not each.is_withheld)
    sources = {tables[name].source.short: tables[name].source for name in used}
    notes = [_difference(record, block, numbers, source) for source in sources.values()]
    notes += [
        f"{each.table} {code(each.row)} is quoted there from {each.quoted}: how {each.source} "
        "measured does not hold for it."
        for each in numbers
        if each.quoted is not None and not each.is_withheld
    ]
    notes += [f"{name}: {note}" for name in used for note in tables[name].notes]
    notes += _left_out(numbers)
    notes += [
        f"There is no published table {each['table']} in this version."
        for each in asked
        if each["table"] not in tables and arms.keys() & each["arms"].keys()
    ]
    return BesidePublished(block.task, numbers, tuple(notes))


def _number(
    arm: ArmRecord, place: tuple[str, str], table: PublishedTable, task: str
) -> PublishedNumber:
    name, row = place
    cell = table.cell(row, task)
    is_printed = cell.certainty != "unverified"
    return PublishedNumber(
        arm=arm.name,
        table=name,
        row=row,
        source=table.source.short,
        certainty=cell.certainty,
        unit=cell.unit,
        value=cell.value if is_printed else None,
        sem=cell.sem if is_printed else None,
        backbone=cell.backbone,
        our_backbone=backbone_name(arm.settings),
        quoted=cell.quoted,
    )


def _difference(
    record: SweepRecord,
    block: Block,
    numbers: Sequence[PublishedNumber],
    source: PublishedSource,
) -> str:
    """Say how a paper measured otherwise than this sweep."""
    shown = [each for each in numbers if each.source == source.short and not each.is_withheld]
    own = [each for each in shown if each.quoted is None]
    pairs = dict.fromkeys(
        (each.our_backbone, each.backbone)
        for each in shown
        if each.our_backbone.rsplit("/", 1)[-1] != each.backbone
    )
    models = "; ".join(f"{code(ours)} here, {code(theirs)} there" for ours, theirs in pairs)
    inputs = source.inputs.get(block.task_name)
    protocol = (
        f"measured otherwise: {source.protocol}; trained {source.steps}"
        if own
        else "quotes these numbers"
    )
    return (
        f"{source.short} ({source.citation}) {protocol}. "
        f"Here: {_our_protocol(record)}, test read after the choice. "
        + (f"Its sequences: {inputs}; here: {block.task}. " if inputs else "")
        + (f"The models differ: {models}." if models else "The backbone has the same name.")
    )


def _our_protocol(record: SweepRecord) -> str:
    tuned = " and ".join(key.rsplit(".", 1)[-1] for key in record.space)
    trials = f"{plural(record.num_trials, 'tuning trial')} of {tuned} in every arm"
    return (
        f"{plural(len(record.final_seeds), 'final seed')}, "
        f"{trials if record.space else 'every arm as configured'}, chosen on validation, at most "
        f"{plural(record.max_steps, 'step')}"
    )


def _left_out(numbers: Sequence[PublishedNumber]) -> Iterator[str]:
    withheld = [each for each in numbers if each.is_withheld]
    if withheld:
        tables = ", ".join(dict.fromkeys(each.table for each in withheld))
        yield (
            f"{plural(len(withheld), 'published number')} of {tables} left out: unverified, that "
            "is, recalled and not transcribed from the paper."
        )


def published_section(blocks: Sequence[BesidePublished], rows: Sequence[ArmResult]) -> str:
    """Write the section: per task and unit a table of ours and the published, then the notes."""
    by_arm, parts = {row.arm: row for row in rows}, []
    for block in blocks:
        parts += [f"### {block.task}"] if len(blocks) > 1 else []
        shown = [each for each in block.numbers if not each.is_withheld]
        for unit in dict.fromkeys(each.unit for each in shown):
            header = ("arm", _OURS[unit], _PUBLISHED[unit], "table and row", "certainty")
            lines = [_line(each, by_arm[each.arm]) for each in shown if each.unit == unit]
            parts.append(markdown_table(header, lines))
        parts.append("\n".join(f"- {note}" for note in block.notes))
    return "\n\n".join(parts)


def _line(number: PublishedNumber, ours: ArmResult) -> list[str]:
    measured = {
        "percent": estimate(ours.statistics),
        "gradient_steps": convergence_steps(ours.convergence),
        "ratio": ABSENT,
    }
    return [
        code(number.arm),
        measured[number.unit],
        _published_value(number),
        f"{number.source}, {number.table} {code(number.row)}",
        CERTAINTY[number.certainty] if number.value is not None else ABSENT,
    ]


def _published_value(number: PublishedNumber) -> str:
    if number.value is None:
        return ABSENT
    if number.unit == "percent":
        sem = "" if number.sem is None else f" ± {number.sem:.1f} (SEM)"
        return f"{number.value}{sem}"
    return f"{number.value:,.0f}"
