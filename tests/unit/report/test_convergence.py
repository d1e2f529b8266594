"""Steps to convergence: the first evaluation within one point of a trial's best."""

from __future__ import annotations

from typing import Any

import pytest

from fpt_ray.report.convergence import measure_convergence
from fpt_ray.report.results import collect
from fpt_ray.report.summary import summarize_sweep


def finalists(sweep: Any, *curves: list[float]) -> list[Any]:
    return [
        sweep._add("random", "final", index, {}, curve, running=len(curve) < 3)
        for index, curve in enumerate(curves)
    ]


@pytest.mark.parametrize(
    ("curve", "step"),
    [
        ([0.5, 0.6, 0.9], 300),
        ([0.5, 0.89, 0.9], 200),
        ([0.5, 0.8899, 0.9], 300),
        ([0.9, 0.5, 0.6], 100),
        ([0.5, 0.5, 0.5], 100),
    ],
)
def test_it_counts_to_the_first_evaluation_within_one_point(
    new_sweep: Any, curve: list[float], step: int
) -> None:
    convergence = measure_convergence(finalists(new_sweep(), curve))
    assert convergence is not None
    assert convergence.steps == {100: step}


def test_an_arm_has_the_mean_and_the_range_of_its_finalists(new_sweep: Any) -> None:
    curves = [0.9, 0.9, 0.9], [0.5, 0.9, 0.9], [0.5, 0.5, 0.9]
    convergence = measure_convergence(finalists(new_sweep(), *curves))
    assert convergence is not None
    assert (convergence.mean, convergence.low, convergence.high) == (200, 100, 300)
    assert convergence.num_still_rising == 1


def test_only_finished_finalists_count(new_sweep: Any) -> None:
    assert measure_convergence(finalists(new_sweep(), [0.5, 0.9])) is None
    assert measure_convergence(()) is None


def test_the_summary_has_a_row_an_arm_and_names_the_resolution(finished: Any) -> None:
    record = finished.record()
    arms = [
        {
            "name": arm.name,
            "labels": arm.labels,
            "settings": {**arm.settings, "training": {"eval_every": 100}},
        }
        for arm in record.arms
    ]
    for known, text in ((record, ""), (finished.record(arms=arms), "every 100 steps, so these")):
        summary = summarize_sweep(known, collect(known), ("curves",), None)
        section = summary.split("## Steps to convergence\n\n")[1].split("\n\n## ")[0]
        assert "| `pretrained` | 300 | 3 | 3 |" in section
        assert text in section
    assert "Validation is evaluated" not in summarize_sweep(record, collect(record), (), None)


def test_a_sweep_without_finalists_says_so(searched: Any) -> None:
    record = searched.record()
    assert "No finalist has finished yet." in summarize_sweep(record, collect(record), (), None)
