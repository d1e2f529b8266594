"""Attention maps: one panel a layer, attending tokens down, attended tokens across."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from fpt_ray.records import AttentionMaps
from fpt_ray.report.figures import style

_MAX_COLUMNS = 3
_MAX_NAMED_TOKENS = 24
_MAX_NAMED_SEGMENTS = 8
_AROUND_IN = 2.0
"""Width that labels and the scale of colours take."""
_COLOURS = "Blues"
_READ = "#D55E00"
_BORDER = "#888888"


def draw_attention(maps: AttentionMaps) -> Figure:
    """Draw the maps of all layers on one scale of colours.

    Lines part the segments of the sequence; a bar at the left marks the tokens that are read.

    Args:
        maps: of one trial.
    """
    num_layers = len(maps.weights)
    columns = min(num_layers, _MAX_COLUMNS)
    rows = -(-num_layers // columns)
    side_in = (style.WIDTH_IN - _AROUND_IN) / _MAX_COLUMNS
    size_in = (_AROUND_IN + columns * side_in, 0.7 + rows * (side_in + 0.25))
    figure = Figure(figsize=size_in, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    norm = Normalize(0.0, float(maps.weights.max()))
    for layer, (axes, weights) in enumerate(zip(grid, maps.weights, strict=False), start=1):
        axes.set_title(f"layer {layer}")
        axes.imshow(weights, cmap=_COLOURS, norm=norm, interpolation="nearest")
        _mark(axes, maps)
    style.hide_unused(grid, num_layers, columns)
    order = ", in shuffled order" if maps.is_shuffled else ""
    figure.supxlabel(f"attended token{order}", fontsize=style.FONT_PT)
    figure.supylabel(f"attending token{order} (orange: read by the output)", fontsize=style.FONT_PT)
    mappable = ScalarMappable(norm, _COLOURS)
    figure.colorbar(mappable, ax=grid, label="attention weight (mean over heads)", shrink=0.8)
    return figure


def _mark(axes: Axes, maps: AttentionMaps) -> None:
    """Part the segments, name them, and mark the rows that are read."""
    axes.grid(visible=False)
    ends = list(accumulate(segment.num_tokens for segment in maps.segments))
    for end in ends[:-1]:
        axes.axhline(end - 0.5, color=_BORDER, lw=0.6)
        axes.axvline(end - 0.5, color=_BORDER, lw=0.6)
    places, names, sides = _ticks(maps)
    axes.set_xticks(places, names)
    axes.set_yticks(places, sides)
    axes.tick_params(length=0)
    size = maps.weights.shape[-1]
    read = np.isin(np.arange(size), maps.read)
    for start in np.flatnonzero(read):
        span = [start - 0.5, start + 0.5]
        foot = axes.get_yaxis_transform()
        axes.plot([0, 0], span, color=_READ, lw=4, transform=foot, solid_capstyle="butt")


def _ticks(maps: AttentionMaps) -> tuple[list[float], list[str], list[str]]:
    """Place tick labels: every token of a short sequence, the segments of a longer one.

    Returns:
        Positions, labels below, and labels at the side.
    """
    starts = [0, *accumulate(segment.num_tokens for segment in maps.segments)]
    if starts[-1] > _MAX_NAMED_TOKENS:
        every = -(-len(maps.segments) // _MAX_NAMED_SEGMENTS)
        named = list(zip(starts, maps.segments, strict=False))[::every]
        places = [start + (segment.num_tokens - 1) / 2 for start, segment in named]
        labels = [segment.label for _, segment in named]
        return places, [label.replace(" ", "\n") for label in labels], labels
    below, side = [], []
    for segment in maps.segments:
        for token in range(1, segment.num_tokens + 1):
            is_middle = token == (segment.num_tokens + 1) // 2
            below.append(f"{token}\n{segment.label}" if is_middle else str(token))
            side.append(f"{segment.label}  {token}" if is_middle else str(token))
    return [float(place) for place in range(starts[-1])], below, side
