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
_MAX_NAMED_SEGMENTS = 4
_MAX_PARTED_SEGMENTS = 16
_BESIDE_NUMBERS_PT = 16
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
    for end in ends[:-1] if len(ends) <= _MAX_PARTED_SEGMENTS else ():
        axes.axhline(end - 0.5, color=_BORDER, lw=0.6)
        axes.axvline(end - 0.5, color=_BORDER, lw=0.6)
    _name_tokens(axes, maps)
    axes.tick_params(which="both", length=0)
    size = maps.weights.shape[-1]
    read = np.isin(np.arange(size), maps.read)
    for start in np.flatnonzero(read):
        span = [start - 0.5, start + 0.5]
        foot = axes.get_yaxis_transform()
        axes.plot([0, 0], span, color=_READ, lw=4, transform=foot, solid_capstyle="butt")


def _name_tokens(axes: Axes, maps: AttentionMaps) -> None:
    """Number every token of a short sequence in its segment; name segments, of many every n-th."""
    starts = [0, *accumulate(segment.num_tokens for segment in maps.segments)]
    every = -(-len(maps.segments) // _MAX_NAMED_SEGMENTS)
    # The last segment is the one that is read, so it always has its name.
    named = list(zip(starts, maps.segments, strict=False))[::-every]
    places = [start + (segment.num_tokens - 1) / 2 for start, segment in named]
    labels = [segment.label for _, segment in named]
    is_short = starts[-1] <= _MAX_NAMED_TOKENS
    axes.set_xticks(places, [label.replace(" ", "\n") for label in labels], minor=is_short)
    axes.set_yticks(places, labels, minor=is_short)
    if is_short:
        # A segment's name stands below the number of the token in its middle.
        axes.xaxis.remove_overlapping_locs = axes.yaxis.remove_overlapping_locs = False
        numbers = [str(i + 1) for segment in maps.segments for i in range(segment.num_tokens)]
        axes.set_xticks(range(starts[-1]), numbers)
        axes.set_yticks(range(starts[-1]), numbers)
        axes.tick_params(which="minor", pad=_BESIDE_NUMBERS_PT)
