"""The x axis of the search figure: one tuned key, its scale, range and values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from fpt_ray.records import TrialRecord
from fpt_ray.report import search_space

_MAX_TICKS = 9
_MARGIN = 0.13


@dataclass(frozen=True, slots=True)
class KeyAxis:
    """A tuned key as an axis: numbers where they are, anything else by its place in the list."""

    key: str
    domain: Mapping[str, Any]

    @property
    def values(self) -> list[Any]:
        """The listed values, or the two bounds."""
        return search_space.kind_and_bounds(self.domain)[1]

    @property
    def is_numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(search_space.is_number(value) for value in self.values)

    @property
    def is_log(self) -> bool:
        """Whether the axis is logarithmic."""
        return self.is_numeric and search_space.wants_log_axis(self.domain)

    @property
    def is_discrete(self) -> bool:
        """Whether values come from a list, so that trials of many arms share a position."""
        return search_space.kind_and_bounds(self.domain)[0] in ("grid", "choice")

    def position(self, trial: TrialRecord) -> float:
        """Return where a trial stands."""
        value = trial.values[self.key]
        return float(value) if self.is_numeric else float(self.values.index(value))

    def dress(self, axes: Axes) -> None:
        """Set scale, limits and label, and name every value of a short list."""
        name = self.key.rsplit(".", 1)[-1].replace("_", " ")
        axes.set_xlabel(f"{name} (log scale)" if self.is_log else name)
        axes.set_xscale("log" if self.is_log else "linear")
        axes.set_xlim(*self._limits())
        if self.is_discrete and len(self.values) <= _MAX_TICKS:
            axes.set_xticks(self._places(), [_tick(value) for value in self.values])
            axes.xaxis.set_minor_locator(NullLocator())
        elif self.is_log:
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axes.xaxis.set_major_formatter(
                FuncFormatter(lambda value, _: _tick(float(f"{value:.6g}")))
            )
            axes.xaxis.set_minor_formatter(NullFormatter())

    def room_pt(self, width_pt: float) -> float:
        """Return the free width around each listed value: the smallest distance of two of them.

        Args:
            width_pt: width of the panel in points.
        """
        if not self.is_discrete:
            return 0.0
        scale = math.log if self.is_log else float
        places = sorted({scale(place) for place in self._places()})
        low, high = (scale(limit) for limit in self._limits())
        gaps = [after - before for before, after in pairwise(places)]
        return width_pt * min(gaps, default=high - low) / (high - low)

    def _places(self) -> list[float]:
        return self.values if self.is_numeric else [float(i) for i in range(len(self.values))]

    def _limits(self) -> tuple[float, float]:
        places = self._places()
        if self.is_log:
            low, high = math.log(min(places)), math.log(max(places))
            margin = _MARGIN * (high - low) or 1.0
            return math.exp(low - margin), math.exp(high + margin)
        margin = _MARGIN * (max(places) - min(places)) or 1.0
        return min(places) - margin, max(places) + margin


def _tick(value: object) -> str:
    """Write small numbers as people type them: ``3e-4``."""
    if search_space.is_number(value) and 0 < abs(value) < 0.01:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return search_space.format_value(value)
