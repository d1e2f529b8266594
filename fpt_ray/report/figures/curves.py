"""Figure 2: learning curves, one panel an arm, with the trials that ended early visible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fpt_ray.records import SweepRecord, TrialRecord
from fpt_ray.report.figures import style

_ENDED_EARLY: dict[str, dict[str, Any]] = {
    "stopped": {"marker": "o", "markerfacecolor": "white", "markersize": 4.5},
    "diverged": {"marker": "x", "markersize": 5.5},
    "failed": {"marker": "+", "markersize": 6.0},
}
_LABELS = {
    "finished": "tuning, full length",
    "stopped": "tuning, stopped early",
    "diverged": "diverged",
    "failed": "failed",
}
_THIN: dict[str, Any] = {"lw": 0.9, "alpha": 0.75}
_THICK: dict[str, Any] = {"lw": 1.8}


def draw_curves(record: SweepRecord) -> Figure:
    """Draw validation accuracy against steps for every trial but superseded finalists.

    Args:
        record: the sweep, begun or finished.
    """
    columns = _num_columns(len(record.arms))
    rows = -(-len(record.arms) // columns)
    panel_in = style.WIDTH_IN / columns - 0.25
    titles = [style.wrap(arm.name, panel_in) for arm in record.arms]
    title_lines = max((title.count("\n") + 1 for title in titles), default=1)
    height_in = 0.8 + rows * (min(2.6, 0.8 * panel_in + 0.4) + 0.14 * title_lines)
    figure = Figure(figsize=(style.WIDTH_IN, height_in), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    styles = style.arm_styles([arm.name for arm in record.arms])
    _share_axes(figure, grid, record)
    for axes, arm, title in zip(grid, record.arms, titles, strict=False):
        axes.set_title(title)
        _draw_arm(axes, _drawn(record, arm.name), styles[arm.name].colour)
    style.hide_unused(grid, len(record.arms), columns)
    return figure


def _share_axes(figure: Figure, grid: Sequence[Axes], record: SweepRecord) -> None:
    trials = [trial for arm in record.arms for trial in _drawn(record, arm.name)]
    accuracies = [value for trial in trials for _, value in _measured(trial)]
    without_value = any(t.status in _ENDED_EARLY and not _measured(t) for t in trials)
    grid[0].set_ylim(style.accuracy_limits(accuracies, without_value))
    grid[0].set_xlim(0, record.max_steps * 1.03)
    grid[0].xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    figure.supxlabel("training steps (optimizer updates)", fontsize=style.FONT_PT)
    figure.supylabel("validation accuracy (share)", fontsize=style.FONT_PT)
    style.add_legend(figure, _handles(trials), "outside upper center")


def _draw_arm(axes: Axes, trials: Sequence[TrialRecord], colour: str) -> None:
    """Draw finalists last, so that they lie above; an arm without evaluations says so."""
    if not any(trial.evaluations for trial in trials):
        axes.text(0.5, 0.5, "no evaluations yet", ha="center", transform=axes.transAxes)
    low, high = axes.get_ylim()
    for trial in trials:
        points = _points(trial, low + 0.05 * (high - low))
        steps, accuracies = [step for step, _ in points], [value for _, value in points]
        axes.plot(steps, accuracies, color=colour, **_look(trial))


def _points(trial: TrialRecord, foot: float) -> list[tuple[int, float]]:
    """List what is drawn of a trial; a diverged one ends where it did, at its last height."""
    points = _measured(trial)
    if trial.status == "diverged" and trial.evaluations:
        height = points[-1][1] if points else foot
        points = [*points, (trial.steps, height)]
    return points


def _measured(trial: TrialRecord) -> list[tuple[int, float]]:
    values = [(each.step, each.validation_accuracy) for each in trial.evaluations]
    return [(step, value) for step, value in values if value is not None and math.isfinite(value)]


def _look(trial: TrialRecord) -> dict[str, Any]:
    """Make finalists thick and tuning trials thin; dash what ended early, and mark its end."""
    width = _THICK if trial.stage == "final" else _THIN
    if trial.status not in _ENDED_EARLY:
        return {**width, "marker": "" if len(trial.evaluations) > 1 else "."}
    return {**width, **_ENDED_EARLY[trial.status], "ls": (0, (4, 2)), "markevery": [-1]}


def _handles(trials: Sequence[TrialRecord]) -> list[Line2D]:
    neutral: dict[str, Any] = {"color": style.NEUTRAL}
    present = {trial.status for trial in trials if trial.stage == "tune"}
    lost = {trial.status for trial in trials if trial.status in ("diverged", "failed")}
    handles = []
    if any(trial.stage == "final" for trial in trials):
        handles.append(Line2D([], [], **neutral, **_THICK, label="finalists, one line a seed"))
    for status, label in _LABELS.items():
        if status in present | lost:
            end = _ENDED_EARLY.get(status, {})
            dashes: dict[str, Any] = {"ls": (0, (4, 2))} if end else {}
            handles.append(Line2D([], [], **neutral, **_THIN, **end, **dashes, label=label))
    return handles


def _drawn(record: SweepRecord, arm: str) -> list[TrialRecord]:
    return [*record.of_arm(arm, "tune"), *record.finalists(arm)]


def _num_columns(num_arms: int) -> int:
    if num_arms <= 3:
        return max(1, num_arms)
    if num_arms == 4:
        return 2
    return 3 if num_arms in (5, 6, 9) else 4
