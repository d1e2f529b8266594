"""How all figures look: colours that the colour-blind tell apart, a journal's text width."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fpt_ray.storage import RunDirectory

FOLDER = "report/figures"
WIDTH_IN = 7.2
FONT_PT = 8.0
NEUTRAL = "#555555"
_PNG_DPI = 200
# The mean width of a lower-case character of DejaVu Sans, a little more to be on the safe side.
_CHARACTER_IN = FONT_PT * 0.57 / 72
_LEGEND_HANDLE_IN = 0.55

# Source: Okabe and Ito, "Color universal design" (2008), without yellow, which is lost on white;
# grey added.
_COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
    *("#56B4E9", "#E69F00", "#000000", "#999999"),
)
_MARKERS = "osD^vP"

SETTINGS: Any = {
    "font.size": FONT_PT,
    "font.family": "DejaVu Sans",
    "axes.titlesize": FONT_PT,
    "axes.labelsize": FONT_PT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": FONT_PT,
    "text.parse_math": False,  # an arm may be called "$5"
    "svg.hashsalt": "fpt_ray",
}


@dataclass(frozen=True, slots=True)
class ArmStyle:
    """An arm's colour and marker; with many arms only the pair is its own."""

    colour: str
    marker: str


def arm_styles(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """Give every arm its colour and marker, the same in all figures."""
    return {
        arm: ArmStyle(
            _COLOURS[index % len(_COLOURS)], _MARKERS[index // len(_COLOURS) % len(_MARKERS)]
        )
        for index, arm in enumerate(arms)
    }


def write_figure(run: RunDirectory, name: str, draw: Callable[[], Figure]) -> None:
    """Draw a figure in the house style and write it as SVG and PNG.

    Args:
        run: the run directory.
        name: the file's stem below ``report/figures``.
        draw: makes the figure.
    """
    with mpl.rc_context(SETTINGS):
        figure = draw()
        for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, dpi=_PNG_DPI, metadata=metadata)
            run.write_bytes(f"{FOLDER}/{name}.{suffix}", buffer.getvalue())


def wrap(text: str, width_in: float) -> str:
    """Break a long label into lines that fit a width: at spaces, after slashes, else anywhere."""
    num_characters = max(8, int(width_in / _CHARACTER_IN))
    lines = textwrap.wrap(text.replace("/", "/ "), num_characters, break_on_hyphens=False)
    return "\n".join(line.replace("/ ", "/") for line in lines)


def add_legend(
    figure: Figure,
    handles: Sequence[Line2D],
    where: Literal["outside upper center", "outside lower center"],
) -> None:
    """Put a legend above or below all panels, in as few rows as its labels leave room for.

    Args:
        figure: the figure, with constrained layout.
        handles: labelled lines.
        where: above or below.
    """
    if not handles:
        return
    widths_in = [_width_in(str(handle.get_label())) for handle in handles]
    fitting = (rows for rows in range(1, len(handles)) if _columns_in(widths_in, rows) <= WIDTH_IN)
    rows = next(fitting, len(handles))
    columns = -(-len(handles) // rows)
    figure.legend(handles=list(handles), loc=where, ncols=columns)


def _width_in(label: str) -> float:
    return _LEGEND_HANDLE_IN + max(map(len, label.split("\n"))) * _CHARACTER_IN


def _columns_in(widths_in: Sequence[float], rows: int) -> float:
    """Add up the widest entry of every column; legends are filled column by column."""
    return sum(max(widths_in[at : at + rows]) for at in range(0, len(widths_in), rows))


def accuracy_limits(accuracies: Sequence[float], room_at_foot: bool) -> tuple[float, float]:
    """Choose the accuracy axis: the data with a margin, hardly beyond 1.

    Args:
        accuracies: every value that is drawn, shares in [0, 1].
        room_at_foot: leave space for marks of trials that have no value.
    """
    low, high = min(accuracies, default=0.0), max(accuracies, default=1.0)
    span = max(high - low, 0.02)
    return low - span * (0.18 if room_at_foot else 0.06), min(high + span * 0.08, 1.0 + span * 0.04)


def hide_unused(grid: Sequence[Axes], num_used: int, num_columns: int) -> None:
    """Take away the panels that no arm fills; those above them then show their own ticks.

    Args:
        grid: all panels, row by row.
        num_used: how many of them are filled, from the first on.
        num_columns: panels in a row.
    """
    for axes in grid[num_used:]:
        axes.set_visible(False)
    for axes in grid[max(0, num_used - num_columns) : num_used]:
        axes.tick_params(labelbottom=True)
