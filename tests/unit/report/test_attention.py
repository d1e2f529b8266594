"""Attention maps in the report: how they are drawn, and when they are linked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from fpt_ray.records import AttentionMaps, Segment
from fpt_ray.report import add_attention, write_report
from fpt_ray.report.attention import drawn_attention
from fpt_ray.report.figures import draw_attention
from fpt_ray.report.figures.style import SETTINGS
from tests.unit.report.test_figures import overlaps, texts
from tests.unit.report.test_write import save

STRINGS = (Segment("string 1", 5), Segment("string 2", 5))
ROWS = tuple(Segment(f"row {index + 1}", 7) for index in range(7))


def maps(arm: str = "pretrained", trial_id: str = "x", **changes: Any) -> AttentionMaps:
    segments = changes.pop("segments", STRINGS)
    num_layers = changes.pop("num_layers", 2)
    size = sum(segment.num_tokens for segment in segments)
    weights = np.tile(np.eye(size, dtype=np.float32), (num_layers, 1, 1))
    read = changes.pop("read", tuple(range(size - 5, size)))
    return AttentionMaps(arm, trial_id, 100, 16, weights, segments, read, **changes)


@pytest.fixture(autouse=True)
def house_style() -> Iterator[None]:
    with mpl.rc_context(SETTINGS):
        yield


def test_every_layer_has_a_panel_with_its_map() -> None:
    given = maps(num_layers=4)
    given.weights[2, 0] = 0.1
    figure = draw_attention(given)
    panels = [axes for axes in figure.axes if axes.images and axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["layer 1", "layer 2", "layer 3", "layer 4"]
    np.testing.assert_array_equal(panels[2].images[0].get_array(), given.weights[2])
    limits = {axes.images[0].get_clim() for axes in panels}
    assert limits == {(0.0, 1.0)}


def test_tokens_are_named_by_their_string_and_place_in_it() -> None:
    figure = draw_attention(maps())
    shown = texts(figure)
    numbers = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert numbers == ["1", "2", "3", "4", "5"] * 2
    beside = [tick.get_text() for tick in figure.axes[0].get_yticklabels(minor=True)]
    assert set(beside) == {"string 1", "string 2"}
    assert "attended token" in shown
    assert any("orange: read by the output" in text for text in shown)


def test_long_sequences_are_named_by_their_segments() -> None:
    shown = texts(draw_attention(maps(segments=ROWS)))
    assert {"row 1", "row\n7"} <= set(shown)
    assert not {"row 2", "49"} & set(shown)


def test_segments_are_parted_and_read_tokens_marked() -> None:
    axes = draw_attention(maps(read=(8, 9))).axes[0]
    data = [line.get_xydata().tolist() for line in axes.lines]
    assert [[0.0, 4.5], [1.0, 4.5]] in data
    assert [[4.5, 0.0], [4.5, 1.0]] in data
    assert [each for each in data if each[0][0] == each[1][0] == 0.0] == [
        [[0.0, 7.5], [0.0, 8.5]],
        [[0.0, 8.5], [0.0, 9.5]],
    ]


def test_a_shuffled_sequence_says_so() -> None:
    assert "attended token, in shuffled order" in texts(draw_attention(maps(is_shuffled=True)))


@pytest.mark.parametrize("num_layers", [1, 2, 6, 12])
@pytest.mark.parametrize("segments", [STRINGS, ROWS])
def test_labels_never_overlap(num_layers: int, segments: Any) -> None:
    assert overlaps(draw_attention(maps(num_layers=num_layers, segments=segments))) == []


def test_figures_are_linked_from_the_summary_and_stay_linked(run: Any, finished: Any) -> None:
    record = finished.record()
    save(run, record)
    write_report(run)
    finalist = record.finalists("pretrained")[1].trial_id
    add_attention(run, [maps(trial_id=finalist)])
    summary = run.read_bytes("report/summary.md").decode()
    section = summary.split("## Attention maps\n\n")[1].split("\n\n## ")[0]
    assert section.startswith(
        f"`pretrained`: finalist `{finalist}` with its best parameters (step 100), mean over all "
        "heads and 16 sequences of the validation split.\n\n"
        "![Attention maps of pretrained](figures/attention_pretrained.png)"
    )
    assert run.exists("report/figures/attention_pretrained.png")
    write_report(run)
    assert run.read_bytes("report/summary.md").decode() == summary


def test_a_figure_of_a_finalist_that_was_superseded_is_no_longer_linked(
    run: Any, finished: Any
) -> None:
    record = finished.record()
    save(run, record)
    add_attention(run, [maps(trial_id=record.finalists("pretrained")[0].trial_id)])
    assert len(drawn_attention(run, record)) == 1
    finished.tune("pretrained", 3e-3, [0.9, 0.95, 0.99])
    assert drawn_attention(run, finished.record()) == ()


def test_arms_with_odd_names_have_files_of_their_own(run: Any, new_sweep: Any) -> None:
    arms = ("+a/b", "+a b", "ab")
    sweep = new_sweep(arms=arms, space={})
    for arm in arms:
        sweep.final(arm, None, 0, 0.9)
    record = sweep.record()
    save(run, record)
    given = [maps(arm, record.finalists(arm)[0].trial_id, num_layers=1) for arm in arms]
    add_attention(run, given)
    names = [each.figure for each in drawn_attention(run, record)]
    assert len(set(names)) == 3
    assert names[2] == "attention_ab"
    assert all(run.exists(f"report/figures/{name}.png") for name in names)
