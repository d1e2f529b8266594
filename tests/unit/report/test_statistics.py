"""The numbers of the final table against hand computation, textbooks and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fpt_ray.report.statistics import (
    Interval,
    bootstrap_interval,
    holm,
    paired_difference,
    summarize,
    t_interval,
    wilson_interval,
)


def test_the_t_interval_of_three_seeds_is_that_of_the_table() -> None:
    # mean 0.8, s = 0.1, t(0.975, 2) = 4.30265: half width 4.30265 * 0.1 / sqrt(3) = 0.248413
    summary = summarize([0.7, 0.8, 0.9], num_planned=3)
    assert (summary.num_done, summary.num_planned, summary.num_lost) == (3, 3, 0)
    assert summary.mean == pytest.approx(0.8)
    assert summary.std == pytest.approx(0.1)
    assert summary.interval is not None
    assert summary.interval.method == "t"
    assert summary.interval.low == pytest.approx(0.8 - 0.248413, abs=1e-6)
    assert summary.interval.high == pytest.approx(0.8 + 0.248413, abs=1e-6)
    assert summary.bootstrap is None


def test_one_seed_has_a_mean_and_no_interval() -> None:
    summary = summarize([0.9], num_planned=1, test_size=100)
    assert summary.mean == 0.9
    assert summary.std is None
    assert summary.interval is None
    assert t_interval([0.9]) is None


def test_no_seed_has_nothing() -> None:
    assert summarize([], num_planned=3).mean is None


def test_a_lost_seed_takes_the_mean_over_the_survivors_away() -> None:
    summary = summarize([0.9, 0.8], num_planned=3, num_lost=1)
    assert (summary.num_done, summary.num_planned, summary.num_lost) == (2, 3, 1)
    assert summary.mean is None
    assert summary.interval is None


def test_equal_seeds_get_the_wilson_interval_of_the_test_split() -> None:
    summary = summarize([0.95, 0.95, 0.95], num_planned=3, test_size=100)
    assert summary.interval is not None
    assert summary.interval.method == "wilson"
    assert summary.std == 0.0
    assert summarize([0.95, 0.95], num_planned=2).interval is None


@pytest.mark.parametrize(("right", "num"), [(0, 10), (10, 10), (7, 10), (950, 1000)])
def test_wilson_agrees_with_scipy(right: int, num: int) -> None:
    expected = stats.binomtest(right, num).proportion_ci(method="wilson")
    ours = wilson_interval(right / num, num)
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("share", "num"), [(1.5, 10), (-0.1, 10), (0.5, 0)])
def test_wilson_refuses_what_is_no_proportion(share: float, num: int) -> None:
    with pytest.raises(ValueError, match=f"no Wilson interval for {share} of {num} examples"):
        wilson_interval(share, num)


def test_the_bootstrap_begins_at_20_seeds_and_repeats_itself() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.02, 20).tolist()
    assert summarize(values[:19], num_planned=19).bootstrap is None
    bootstrap = summarize(values, num_planned=20).bootstrap
    assert bootstrap is not None
    assert bootstrap == bootstrap_interval(values)
    t = t_interval(values)
    assert t is not None
    assert (bootstrap.low, bootstrap.high) == pytest.approx((t.low, t.high), abs=0.003)
    assert bootstrap_interval([0.5] * 20) is None
    with pytest.raises(ValueError, match="bootstrap needs 20 values, got 3"):
        bootstrap_interval([0.1, 0.2, 0.3])


def test_pairs_are_formed_on_common_seeds() -> None:
    # differences 0.1, 0.3, 0.2 on seeds 1, 2, 3: mean 0.2, s = 0.1, t = 0.2 / (0.1 / sqrt(3)) =
    # 3.4641
    ours = {1: 0.8, 2: 0.9, 3: 0.7, 9: 0.0}
    reference = {1: 0.7, 2: 0.6, 3: 0.5, 4: 1.0}
    difference = paired_difference(ours, reference)
    assert difference is not None
    assert difference.num_pairs == 3
    assert difference.mean == pytest.approx(0.2)
    assert difference.std == pytest.approx(0.1)
    assert difference.correlation == pytest.approx(0.5)
    assert difference.interval is not None
    assert difference.interval.low == pytest.approx(0.2 - 0.248413, abs=1e-6)
    assert difference.p == pytest.approx(2 * stats.t.sf(2 * math.sqrt(3), 2))
    assert difference.p == pytest.approx(0.0742, abs=1e-4)


def test_no_common_seed_means_no_comparison() -> None:
    assert paired_difference({1: 0.5}, {2: 0.5}) is None


def test_one_common_seed_has_a_difference_without_a_test() -> None:
    difference = paired_difference({1: 0.5, 2: 0.7}, {1: 0.25})
    assert difference is not None
    assert difference.mean == 0.25
    assert (difference.interval, difference.p, difference.correlation) == (None, None, None)


def test_differences_without_spread_are_not_tested() -> None:
    difference = paired_difference({1: 0.7, 2: 0.8, 3: 0.9}, {1: 0.6, 2: 0.7, 3: 0.8})
    assert difference is not None
    assert difference.std == 0.0
    assert (difference.interval, difference.p) == (None, None)
    assert difference.correlation == pytest.approx(1.0)


def test_an_arm_without_spread_has_no_correlation() -> None:
    difference = paired_difference({1: 1.0, 2: 1.0}, {1: 0.6, 2: 0.7})
    assert difference is not None
    assert difference.correlation is None
    assert difference.p is not None


def test_holm_corrects_the_textbook_case() -> None:
    # Four tests, p sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1 and never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_an_interval_knows_what_it_covers() -> None:
    interval = Interval(-0.1, 0.2, "t")
    assert interval.covers(0.0)
    assert not interval.covers(0.3)
