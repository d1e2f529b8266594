"""Figure 1: validation accuracy of every tuning trial against the learning rate, by arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from fpt_ray.records import SweepRecord, TrialRecord
from fpt_ray.records.sweep import configuration_key
from fpt_ray.report import search_space
from fpt_ray.report.figures import style
from fpt_ray.report.figures.key_axis import KeyAxis

_MAX_ARMS_A_PANEL = 8
_FOOT = 0.045
_APART_PT = 4.6
_RING: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 10,
    "markerfacecolor": "none",
}
_LOST = ("diverged", "failed")
_STATUSES = {
    "finished": "trained to full length",
    "stopped": "stopped early",
    "diverged": "diverged (at the foot)",
    "failed": "failed (at the foot)",
    "running": "not ended yet",
}


def draw_search(record: SweepRecord, blocks: Mapping[str, Sequence[str]]) -> Figure:
    """Draw the search of every arm.

    Filled points trained to full length, hollow ones were stopped, crosses at the foot diverged.
    The line joins the best full-length result at each value (the mean over tuning seeds), a ring
    marks the chosen one.

    Args:
        record: the sweep; it has a search.
        blocks: task -> names of its arms; each task has panels of its own.

    Raises:
        ValueError: if the sweep tunes nothing.
    """
    key = search_space.main_key(record.space)
    if key is None:
        raise ValueError("a sweep that tunes nothing has no search to draw")
    axis = KeyAxis(key, record.space[key])
    panels = [(task, chunk) for task, arms in blocks.items() for chunk in _chunks(arms)]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    size = (style.WIDTH_IN, 0.9 + 2.7 * rows + 0.09 * len(record.arms))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel().tolist()
    width_in = style.WIDTH_IN / columns - 0.5
    for axes, (task, arms) in zip(grid, panels, strict=False):
        axes.set_title(style.wrap(task, width_in) if len(blocks) > 1 else "")
        apart_pt = min(_APART_PT, 0.8 * axis.room_pt(width_in * 72) / len(arms))
        _draw_panel(axes, record, axis, arms, apart_pt)
    style.hide_unused(grid, len(panels), columns)
    _finish(figure, grid[::columns], record)
    return figure


def _finish(figure: Figure, left: Sequence[Axes], record: SweepRecord) -> None:
    tuning = [trial for trial in record.trials if trial.stage == "tune"]
    shown = [a for t in tuning if t.status not in _LOST and (a := _accuracy(t)) is not None]
    lost = any(trial.status in _LOST for trial in tuning)
    left[0].set_ylim(style.accuracy_limits(shown, lost))
    for axes in left:
        axes.set_ylabel("best validation accuracy (share)")
    style.add_legend(figure, _status_handles(tuning), "outside upper center")
    style.add_legend(figure, _arm_handles(record), "outside lower center")


def _draw_panel(
    axes: Axes, record: SweepRecord, axis: KeyAxis, arms: Sequence[str], apart_pt: float
) -> None:
    axis.dress(axes)
    styles = style.arm_styles([arm.name for arm in record.arms])
    for index, arm in enumerate(arms):
        shift_pt = (index - (len(arms) - 1) / 2) * apart_pt
        points = _PointsOfArm(axes, axis, styles[arm], shift_pt)
        points.draw(record.of_arm(arm, "tune"), record.winner(arm))


class _PointsOfArm:
    """Draws one arm, a little apart from the others where all share the same few values."""

    def __init__(self, axes: Axes, axis: KeyAxis, look: style.ArmStyle, shift_pt: float) -> None:
        self._axes, self._axis, self._look = axes, axis, look
        figure = axes.get_figure(root=True)
        assert figure is not None
        shift = ScaledTranslation(shift_pt / 72, 0.0, figure.dpi_scale_trans)
        self._data = axes.transData + shift
        self._foot = blended_transform_factory(axes.transData, axes.transAxes) + shift

    def draw(self, trials: Sequence[TrialRecord], winner: TrialRecord | None) -> None:
        """Draw the line, then the points upon it, then the ring around the chosen one."""
        levels = _levels(trials)
        line = _upper_line(trials, levels, self._axis)
        self._plot([x for x, _ in line], [y for _, y in line], lw=1.1, alpha=0.8)
        for trial in trials:
            self._draw_point(trial)
        if winner is not None:
            level = levels[configuration_key(winner.values)]
            self._plot([self._axis.position(winner)], [level], **_RING)

    def _draw_point(self, trial: TrialRecord) -> None:
        x, y = [self._axis.position(trial)], _accuracy(trial)
        look = _marker(trial.status, self._look)
        if trial.status in _LOST:
            self._axes.plot(x, [_FOOT], transform=self._foot, **look)
        elif y is not None:
            self._axes.plot(x, [y], transform=self._data, **look)

    def _plot(self, x: Sequence[float], y: Sequence[float], **look: Any) -> None:
        self._axes.plot(x, y, color=self._look.colour, transform=self._data, **look)


def _levels(trials: Sequence[TrialRecord]) -> dict[str, float]:
    """Average each full-length configuration over its tuning seeds."""
    groups: dict[str, list[float]] = {}
    for trial in trials:
        accuracy = _accuracy(trial)
        if trial.status == "finished" and accuracy is not None:
            groups.setdefault(configuration_key(trial.values), []).append(accuracy)
    return {key: fmean(accuracies) for key, accuracies in groups.items()}


def _upper_line(
    trials: Sequence[TrialRecord], levels: Mapping[str, float], axis: KeyAxis
) -> list[tuple[float, float]]:
    """Keep the best configuration at each position, from left to right."""
    best: dict[float, float] = {}
    for trial in trials:
        level = levels.get(configuration_key(trial.values))
        if level is not None:
            place = axis.position(trial)
            best[place] = max(level, best.get(place, level))
    return sorted(best.items())


def _marker(status: str, look: style.ArmStyle) -> dict[str, Any]:
    """Say how a trial is drawn: by its arm's colour and marker, and by how it ended."""
    base = {"color": look.colour, "linestyle": "none", "marker": look.marker, "markersize": 5.0}
    if status in _LOST:
        mark = "x" if status == "diverged" else "+"
        return base | {"marker": mark, "markersize": 4.5, "markeredgewidth": 1.3}
    if status == "stopped":
        return base | {"markerfacecolor": "white", "markeredgewidth": 1.1}
    if status == "running":
        return base | {"marker": ".", "markersize": 4.0}
    return base


def _status_handles(trials: Sequence[TrialRecord]) -> list[Line2D]:
    present = {trial.status for trial in trials} | {"finished"}
    look = style.ArmStyle(style.NEUTRAL, "o")
    handles = [
        Line2D([], [], label=label, **_marker(status, look))
        for status, label in _STATUSES.items()
        if status in present
    ]
    return [*handles, Line2D([], [], color=style.NEUTRAL, label="chosen", **_RING)]


def _arm_handles(record: SweepRecord) -> list[Line2D]:
    styles = style.arm_styles([arm.name for arm in record.arms])
    return [
        Line2D(
            *([], []),
            color=look.colour,
            marker=look.marker,
            markersize=5.0,
            lw=1.1,
            label=style.wrap(arm, style.WIDTH_IN - 1),
        )
        for arm, look in styles.items()
    ]


def _accuracy(trial: TrialRecord) -> float | None:
    return trial.best.validation_accuracy if trial.best is not None else None


def _chunks(arms: Sequence[str]) -> list[Sequence[str]]:
    """Split many arms evenly over panels that stay readable."""
    num_panels = -(-len(arms) // _MAX_ARMS_A_PANEL)
    size = -(-len(arms) // num_panels)
    return [arms[start : start + size] for start in range(0, len(arms), size)]
