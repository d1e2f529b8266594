"""Attention maps in the report: what was drawn, of which trials, and whether it still holds."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from fpt_ray.records import AttentionMaps, SweepRecord
from fpt_ray.report.wording import code, plural
from fpt_ray.storage import RunDirectory

INDEX = "report/figures/attention.json"


@dataclass(frozen=True, slots=True)
class AttentionFigure:
    """A figure of attention maps.

    Attributes:
        arm: whose finalist it shows.
        trial_id: which finalist.
        step: when its parameters were saved, in training steps.
        num_samples: validation sequences that were averaged.
        figure: the file's stem below ``report/figures``.
    """

    arm: str
    trial_id: str
    step: int
    num_samples: int
    figure: str


def write_attention(run: RunDirectory, maps: Sequence[AttentionMaps]) -> None:
    """Draw attention maps, and note what they show, so that later reports link them too.

    Args:
        run: the run directory.
        maps: of one trial an arm; figures of other arms stay.
    """
    from fpt_ray.report.figures import draw_attention, write_figure

    drawn = [AttentionFigure(m.arm, m.trial_id, m.step, m.num_samples, "") for m in maps]
    figures = [replace(each, figure=_figure_of(each.arm)) for each in drawn]
    for figure, each in zip(figures, maps, strict=True):
        write_figure(run, figure.figure, partial(draw_attention, each))
    own = {figure.arm for figure in figures}
    kept = [each for each in _indexed(run) if each.arm not in own]
    run.write_json(INDEX, [asdict(each) for each in (*kept, *figures)])


def drawn_attention(run: RunDirectory, record: SweepRecord) -> tuple[AttentionFigure, ...]:
    """List the figures of trials that are still finalists of their arms, in the arms' order."""
    by_arm = {figure.arm: figure for figure in _indexed(run)}
    finalists = {t.trial_id for arm in record.arms for t in record.finalists(arm.name)}
    listed = (by_arm.get(arm.name) for arm in record.arms)
    return tuple(each for each in listed if each is not None and each.trial_id in finalists)


def attention_section(figures: Sequence[AttentionFigure]) -> str:
    """Write the section: a figure an arm, and how to read it; nothing where none was drawn."""
    if not figures:
        return ""
    parts = [
        f"{code(each.arm)}: finalist {code(each.trial_id)} with its best parameters (step "
        f"{each.step:,}), mean over all heads and {plural(each.num_samples, 'sequence')} of the "
        f"validation split.\n\n![Attention maps of {each.arm.translate(_ALT)}]"
        f"(figures/{each.figure}.png)"
        for each in figures
    ]
    told = (
        "A row is a token that attends, a column a token that is attended to; rows sum to 1. "
        "Orange marks the tokens that the output layer reads."
    )
    return "\n\n".join([*parts, told])


_ALT = str.maketrans("[]\n\r", "()  ")


def _indexed(run: RunDirectory) -> list[AttentionFigure]:
    return [AttentionFigure(**each) for each in run.read_json(INDEX) or []]


def _figure_of(arm: str) -> str:
    """Name an arm's figure; a checksum keeps arms apart whose names differ in odd characters."""
    plain = re.sub(r"[^\w+=-]+", "_", arm, flags=re.ASCII).strip("_")
    safe = plain if plain == arm else f"{plain}-{zlib.crc32(arm.encode()):08x}"
    return f"attention_{safe}"
