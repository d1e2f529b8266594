"""The figures: drawn for every shape of sweep, they say what they show and never change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from fpt_ray.report.figures import draw_curves, draw_search, write_figure
from fpt_ray.report.figures.key_axis import KeyAxis
from fpt_ray.report.figures.style import SETTINGS, accuracy_limits, arm_styles, wrap

RATE = "training.learning_rate"


@pytest.fixture(autouse=True)
def house_style() -> Iterator[None]:
    with mpl.rc_context(SETTINGS):
        yield


def blocks_of(record: Any) -> dict[str, list[str]]:
    return {"bit_xor": [arm.name for arm in record.arms]}


def texts(figure: Figure) -> list[str]:
    """Everything that is written on a figure: titles, labels, ticks and legends."""
    figure.draw_without_rendering()
    axes = [each for each in figure.axes if each.get_visible()]
    found = [t.get_text() for legend in figure.legends for t in legend.get_texts()]
    for each in axes:
        found += [each.get_title(), each.get_xlabel(), each.get_ylabel()]
        found += [
            t.get_text() for t in (*each.texts, *each.get_xticklabels(), *each.get_yticklabels())
        ]
    found += [figure.get_supxlabel(), figure.get_supylabel()]
    return [text for text in found if text]


def overlaps(figure: Figure) -> list[str]:
    """Pairs of legend entries and tick labels that touch."""
    figure.draw_without_rendering()
    visible = [each for each in figure.axes if each.get_visible()]
    labels = [t for legend in figure.legends for t in legend.get_texts()]
    labels += [each.title for each in visible if each.get_title()]
    for each in visible:
        low, high = sorted(each.get_xlim())
        ticks = [tick for tick in each.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
        labels += [tick.label1 for tick in ticks if tick.label1.get_visible()]
    boxes = [(label.get_text(), label.get_window_extent()) for label in labels]
    return [
        f"{first} / {second}"
        for index, (first, box) in enumerate(boxes)
        for second, other in boxes[index + 1 :]
        if box.overlaps(other)
    ]


def test_the_search_is_drawn_against_the_learning_rate(finished: Any) -> None:
    record = finished.record()
    figure = draw_search(record, blocks_of(record))
    shown = texts(figure)
    assert {"learning rate (log scale)", "best validation accuracy (share)"} <= set(shown)
    assert {"1e-4", "1e-3", "0.01", "pretrained", "random"} <= set(shown)
    assert {"trained to full length", "stopped early", "diverged (at the foot)"} <= set(shown)
    assert "chosen" in shown
    assert "failed (at the foot)" not in shown


def test_every_tuning_trial_is_a_point_by_how_it_ended(finished: Any) -> None:
    record = finished.record()
    (axes,) = draw_search(record, blocks_of(record)).axes
    markers = [line for line in axes.lines if line.get_linestyle() == "None"]
    crosses = [line for line in markers if line.get_marker() == "x"]
    hollow = [line for line in markers if line.get_markerfacecolor() == "white"]
    rings = [line for line in markers if line.get_markersize() == 10]
    assert (len(markers), len(crosses), len(hollow), len(rings)) == (8, 1, 2, 2)
    assert [ring.get_xydata().tolist() for ring in rings] == [[[1e-3, 0.95]], [[1e-2, 0.75]]]
    joined = [line.get_xydata().tolist() for line in axes.lines if line.get_linestyle() == "-"]
    assert joined == [[[1e-3, 0.95]], [[1e-3, 0.7], [1e-2, 0.75]]]


def test_a_repeated_rate_counts_with_its_mean(new_sweep: Any) -> None:
    sweep = new_sweep(arms=("a",))
    sweep.tune("a", 1e-3, [0.5, 0.6, 0.7])
    sweep.tune("a", 1e-3, [0.5, 0.6, 0.9])
    record = sweep.record()
    (axes,) = draw_search(record, blocks_of(record)).axes
    (line,) = [line for line in axes.lines if line.get_linestyle() == "-"]
    assert line.get_xydata().tolist() == [[1e-3, pytest.approx(0.8)]]


def test_learning_curves_have_a_panel_an_arm(finished: Any) -> None:
    figure = draw_curves(finished.record())
    assert [axes.get_title() for axes in figure.axes] == ["pretrained", "random"]
    shown = texts(figure)
    assert "training steps (optimizer updates)" in shown
    assert "validation accuracy (share)" in shown
    assert "finalists, one line a seed" in shown
    assert "tuning, stopped early" in shown
    lines = figure.axes[0].lines
    assert len(lines) == 6
    stopped, full, diverged = lines[:3]
    assert (stopped.get_marker(), full.get_marker(), diverged.get_marker()) == ("o", "", "x")
    assert diverged.get_xydata().tolist() == [[100, 0.55], [200, 0.55]]
    assert lines[3].get_linewidth() > full.get_linewidth()


def test_a_failed_trial_and_an_arm_without_trials_are_visible(new_sweep: Any) -> None:
    sweep = new_sweep()
    sweep.tune("random", 1e-3, [0.5, 0.6, 0.7])
    sweep.fail("out of memory")
    sweep.tune("random", 1e-2, [None])
    sweep.tune("random", 1e-4, [0.4])
    sweep.trials[-1] = replace(sweep.trials[-1], status="running")
    record = sweep.record()
    shown = texts(draw_curves(record))
    assert "no evaluations yet" in shown
    assert {"failed", "diverged"} <= set(shown)
    searched = texts(draw_search(record, blocks_of(record)))
    assert {"failed (at the foot)", "not ended yet"} <= set(searched)


@pytest.mark.parametrize("num_arms", [1, 2, 4, 9, 16])
@pytest.mark.parametrize(
    "name", ["+layer_norm/random{}", "a very long name of an arm, no {}, " * 2]
)
def test_labels_never_overlap(new_sweep: Any, num_arms: int, name: str) -> None:
    arms = tuple(name.format(index, index) for index in range(num_arms))
    rates = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
    sweep = new_sweep(arms=arms, space={RATE: {"grid": rates}})
    for arm in arms:
        for rate in rates:
            sweep.tune(arm, rate, [0.5, 0.6, 0.7])
    record = sweep.record()
    assert overlaps(draw_search(record, blocks_of(record))) == []
    assert overlaps(draw_curves(record)) == []


def test_the_lowest_panel_of_every_column_names_its_steps(new_sweep: Any) -> None:
    figure = draw_curves(new_sweep(arms=tuple("abcdefg")).record())
    figure.draw_without_rendering()
    labelled = [axes.xaxis.get_major_ticks()[0].label1.get_visible() for axes in figure.axes]
    assert labelled == [False] * 3 + [True] * 5
    assert [axes.get_visible() for axes in figure.axes] == [True] * 7 + [False]


def test_tasks_have_panels_of_their_own(new_sweep: Any) -> None:
    sweep = new_sweep(arms=("a", "b"))
    sweep.tune("a", 1e-3, [0.5, 0.6, 0.7])
    figure = draw_search(sweep.record(), {"bit_xor": ["a"], "bit_memory": ["b"]})
    assert [axes.get_title() for axes in figure.axes] == ["bit_xor", "bit_memory"]


def test_a_sweep_that_tunes_nothing_has_no_search_to_draw(new_sweep: Any) -> None:
    with pytest.raises(ValueError, match="a sweep that tunes nothing has no search to draw"):
        draw_search(new_sweep(space={}).record(), {})


@pytest.mark.parametrize(
    ("domain", "value", "position", "ticks"),
    [
        ({"choice": ["adam", ["x", "y"]]}, ["x", "y"], 1.0, ["adam", "[x, y]"]),
        ({"choice": [True, False]}, False, 1.0, ["true", "false"]),
        ({"grid": [1, 2]}, 2, 2.0, ["1", "2"]),
        ({"uniform": [0.0, 0.5]}, 0.25, 0.25, None),
        ({"log_uniform": [1e-5, 1e-1]}, 1e-3, 1e-3, ["1e-5", "3e-5", "1e-4"]),
    ],
)
def test_any_tuned_key_can_be_the_axis(
    new_sweep: Any, domain: Any, value: Any, position: float, ticks: list[str] | None
) -> None:
    sweep = new_sweep(arms=("a",), space={RATE: domain})
    trial = sweep.tune("a", value, [0.5, 0.6, 0.7])
    record = sweep.record()
    assert KeyAxis(RATE, domain).position(trial) == position
    figure = draw_search(record, blocks_of(record))
    assert set(ticks or []) <= set(texts(figure))


def test_the_files_hold_the_labels_and_never_change(run: Any, finished: Any) -> None:
    record = finished.record()
    draw = lambda: draw_search(record, blocks_of(record))  # noqa: E731 - drawn twice
    write_figure(run, "search", draw)
    svg, png = (run.read_bytes(f"report/figures/search.{suffix}") for suffix in ("svg", "png"))
    assert b"<!-- learning rate (log scale) -->" in svg
    assert b"<!-- pretrained -->" in svg
    assert b"<dc:date>" not in svg
    assert png.startswith(b"\x89PNG")
    write_figure(run, "search", draw)
    assert run.read_bytes("report/figures/search.svg") == svg
    assert run.read_bytes("report/figures/search.png") == png


def test_arms_are_told_apart_by_colour_and_marker() -> None:
    styles = arm_styles([str(index) for index in range(32)])
    assert len(set(styles.values())) == 32
    assert len({style.colour for style in list(styles.values())[:8]}) == 8


def test_long_names_break_after_slashes() -> None:
    assert wrap("a first label/a second label", 1.0) == "a first label/\na second label"
    assert max(map(len, wrap("x" * 100, 1.0).splitlines())) <= 15


def test_the_accuracy_axis_stays_near_the_data() -> None:
    low, high = accuracy_limits([0.5, 1.0], room_at_foot=False)
    assert 0.4 < low < 0.5
    assert 1.0 < high <= 1.02
    assert accuracy_limits([0.5, 1.0], room_at_foot=True)[0] < low
    assert accuracy_limits([], room_at_foot=False) == (-0.06, 1.04)
