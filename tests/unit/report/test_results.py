"""From records to rows: what is chosen, compared and missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fpt_ray.report.results import collect
from fpt_ray.report.statistics import wilson_interval

RATE = "training.learning_rate"
MEMORY = {"name": "bit_memory", "patterns": 3}


def test_a_row_holds_what_was_searched_chosen_and_tested(finished: Any) -> None:
    result = collect(finished.record())
    assert result.complete
    (block,) = result.blocks
    assert block.task == "bit_xor"
    ours, theirs = block.arms
    assert ours.is_reference
    assert ours.difference is None
    assert ours.values == {RATE: 1e-3}
    assert ours.accuracies == {100: 0.96, 101: 0.94, 102: 0.98}
    assert ours.statistics.mean == pytest.approx(0.96)
    assert ours.statuses == {"stopped": 1, "finished": 4, "diverged": 1}
    assert (ours.trained_parameters, ours.tests_read) == (1234, 3)
    assert (ours.steps, ours.train_s) == (100 + 300 + 200 + 900, 2 + 6 + 4 + 18)
    assert ours.search is not None
    assert (ours.search.num_trials, ours.search.num_planned) == (3, 3)
    assert (ours.search.num_full_length, ours.search.best_accuracy) == (1, 0.95)
    assert ours.search.edges == {}
    assert theirs.search is not None
    assert theirs.search.edges == {RATE: "upper"}
    assert theirs.difference is not None
    assert theirs.difference.mean == pytest.approx(0.75 - 0.96)
    assert theirs.difference.p_holm == theirs.difference.p


def test_holm_counts_the_arms_of_the_block(new_sweep: Any) -> None:
    sweep = new_sweep(arms=("a", "b", "c"), space={})
    for index, accuracies in enumerate([(0.9, 0.5, 0.7), (0.8, 0.52, 0.75), (0.85, 0.49, 0.6)]):
        for arm, accuracy in zip("abc", accuracies, strict=True):
            sweep.final(arm, None, index, accuracy)
    rows = collect(sweep.record()).rows
    first, second = (row.difference for row in rows[1:])
    assert first is not None
    assert second is not None
    assert first.p_holm == pytest.approx(2 * first.p)
    assert second.p_holm == pytest.approx(max(second.p, first.p_holm))


def test_arms_with_other_tasks_are_never_compared(new_sweep: Any) -> None:
    sweep = new_sweep(arms=("a", "b", "c"), space={}, tasks={"b": MEMORY})
    for arm in "abc":
        for index in range(3):
            sweep.final(arm, None, index, 0.5 + index / 10 + (arm == "c") * index / 50)
    result = collect(sweep.record())
    assert [block.task for block in result.blocks] == [
        "bit_xor",
        "bit_memory (patterns 3)",
    ]
    assert [[row.arm for row in block.arms] for block in result.blocks] == [["a", "c"], ["b"]]
    assert [row.difference is not None for row in result.rows] == [False, True, False]


@pytest.mark.parametrize("loser", ["pretrained", "random"])
def test_a_lost_seed_ends_the_mean_and_the_comparison(searched: Any, loser: str) -> None:
    for arm, rate in (("pretrained", 1e-3), ("random", 1e-2)):
        for index in range(3):
            searched.final(arm, rate, index, None if (arm, index) == (loser, 1) else 0.9)
    rows = {row.arm: row for row in collect(searched.record()).rows}
    assert rows[loser].statistics.mean is None
    assert (rows[loser].statistics.num_done, rows[loser].statistics.num_lost) == (2, 1)
    assert rows["random"].difference is None


def test_a_sweep_without_a_search_has_no_search_result(new_sweep: Any) -> None:
    sweep = new_sweep(space={})
    sweep.final("pretrained", None, 0, 0.9)
    result = collect(sweep.record())
    assert result.rows[0].search is None
    assert result.rows[0].values == {}
    assert result.missing == (
        "pretrained: 1 of 3 final seeds",
        "random: 0 of 3 final seeds",
    )


def test_what_is_left_is_told_arm_by_arm(searched: Any) -> None:
    searched.trials.pop()
    searched.final("pretrained", 1e-3, 0, None, accuracies=[0.5])
    assert collect(searched.record()).missing == (
        "pretrained: 1 trials have not ended",
        "random: 2 of 3 tuning trials",
    )


def test_an_arm_in_which_nothing_trained_to_full_length_is_done(finished: Any) -> None:
    hopeless = [t for t in finished.trials if t.arm == "pretrained" or t.stage == "tune"]
    finished.trials[:] = [
        t if t.arm == "pretrained" else replace(t, status="stopped") for t in hopeless
    ]
    result = collect(finished.record())
    assert result.complete
    assert result.rows[1].values == {}
    assert result.rows[1].difference is None


def test_superseded_finalists_leave_the_row_but_count_as_reads(finished: Any) -> None:
    finished.tune("pretrained", 3e-3, [0.9, 0.95, 0.99])
    row = collect(finished.record()).rows[0]
    assert row.values == {RATE: 3e-3}
    assert row.accuracies == {}
    assert row.statuses["superseded"] == 3
    assert row.tests_read == 3


def test_wilson_intervals_count_the_sequences_that_were_not_read(new_sweep: Any) -> None:
    widths = {}
    for skipped in (None, 0, 1200):
        sweep = new_sweep(arms=("a",), space={}, test_skipped=skipped)
        for index in range(3):
            sweep.final("a", None, index, 0.9)
        (row,) = collect(sweep.record()).rows
        assert (row.test_size, row.test_skipped) == (400 + (skipped or 0), skipped or 0)
        widths[skipped] = row.statistics.interval
    assert widths[None] == widths[0] == wilson_interval(0.9, 400)
    assert widths[1200] == wilson_interval(0.9, 1600)
