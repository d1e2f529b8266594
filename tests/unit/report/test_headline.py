"""The first sentences: they say what was found and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from fpt_ray.report.headline import headline
from fpt_ray.report.results import collect


def finding(sweep: Any, **accuracies: Sequence[float | None]) -> list[str]:
    for arm, values in accuracies.items():
        for index, accuracy in enumerate(values):
            sweep.final(arm, None, index, accuracy)
    return headline(collect(sweep.record()))


def test_a_finding_names_both_arms_the_interval_and_the_seeds(finished: Any) -> None:
    # differences 0.16, 0.24, 0.23: mean 0.21, s = 0.043589, half 4.30265 s / sqrt(3) = 0.108281
    assert headline(collect(finished.record())) == [
        "`pretrained` beats `random` by 21.00 points [+10.17, +31.83] over 3 seeds, each arm at "
        "its own best learning rate. With 3 seeds these intervals rest on few observations."
    ]


def test_a_better_arm_comes_first_whichever_is_the_reference(new_sweep: Any) -> None:
    sweep = new_sweep(space={}, reference="random", num_seeds=5)
    (text,) = finding(
        sweep, pretrained=[0.9, 0.92, 0.91, 0.93, 0.9], random=[0.7, 0.7, 0.71, 0.72, 0.7]
    )
    assert text == (
        "`pretrained` beats `random` by 20.60 points [+19.49, +21.71] over 5 seeds, each arm as "
        "configured."
    )


def test_an_interval_that_covers_zero_establishes_nothing(new_sweep: Any) -> None:
    (text,) = finding(new_sweep(space={}), pretrained=[0.9, 0.8, 0.7], random=[0.6, 0.8, 0.8])
    assert text.startswith(
        "no difference between `pretrained` and `random` is established: `pretrained` is 6.67 "
        "points above, [-45.04, +58.38] over 3 seeds, an interval that covers zero, each arm"
    )


def test_a_difference_that_does_not_survive_holm_is_not_claimed(new_sweep: Any) -> None:
    sweep = new_sweep(arms=("a", "b", "c"), space={})
    (text,) = finding(sweep, a=[0.9, 0.8, 0.85], b=[0.5, 0.52, 0.3], c=[0.9, 0.81, 0.84])
    assert text.startswith(
        "The largest of 2 differences: no difference between `a` and `b` is established: "
    )
    assert "but p = 0.069 after Holm's correction for 2 comparisons" in text
    assert "0 of 2 arms differ from the reference at Holm-corrected p < 0.05." in text


def test_one_seed_may_be_luck(new_sweep: Any) -> None:
    (text,) = finding(new_sweep(space={}, num_seeds=1), pretrained=[0.9], random=[0.5])
    assert text == (
        "`pretrained` is 40.00 points above `random` on one seed, which gives no interval and may "
        "be the seed's luck, each arm as configured."
    )


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ([0.9, 0.8, 0.7], "reach the same test accuracy on each of 3 seeds"),
        ([0.8, 0.7, 0.6], "differ by 10.00 points on each of 3 seeds"),
    ],
)
def test_differences_without_spread_are_told_as_such(
    new_sweep: Any, theirs: list[float], expected: str
) -> None:
    (text,) = finding(new_sweep(space={}), pretrained=[0.9, 0.8, 0.7], random=theirs)
    assert f"`pretrained` and `random` {expected}; without spread there is nothing to test" in text


def test_survivors_of_a_diverged_seed_are_not_compared(new_sweep: Any) -> None:
    (text,) = finding(new_sweep(space={}), pretrained=[0.9, 0.91, 0.92], random=[0.5, None, 0.6])
    assert text == (
        "`pretrained` reaches 91.00 [88.52, 93.48] % test accuracy over 3 seeds, each arm as "
        "configured. Seeds diverged or failed in `random` (1 of 3): no mean over the survivors, no "
        "comparison."
    )


def test_all_arms_lost_leave_no_mean(new_sweep: Any) -> None:
    (text,) = finding(new_sweep(arms=("a",), space={}), a=[0.5, None, 0.6])
    assert text.startswith("No arm has a mean. Seeds diverged or failed in `a` (1 of 3)")


def test_a_single_arm_is_told_alone(new_sweep: Any) -> None:
    (text,) = finding(new_sweep(arms=("default",), space={}), default=[0.9, 0.9, 0.9])
    assert text == (
        "`default` reaches 90.00 [86.67, 92.57] (wilson) % test accuracy over 3 seeds, each arm as "
        "configured."
    )


def test_tuned_keys_are_named(new_sweep: Any) -> None:
    space = {"training.learning_rate": {"grid": [1]}, "training.dropout": {"grid": [0]}}
    sweep = new_sweep(arms=("a",), space=space)
    sweep.tune("a", 1, [0.5, 0.6, 0.7])
    sweep.final("a", 1, 0, 0.9)
    assert (
        "each arm at its own best learning_rate and dropout."
        in headline(collect(sweep.record()))[1]
    )


def test_an_unfinished_sweep_says_so_first(searched: Any) -> None:
    assert headline(collect(searched.record())) == [
        "This sweep is unfinished, so every number below is provisional.",
        "No arm has been tested yet.",
    ]


def test_each_task_has_its_own_sentence(new_sweep: Any) -> None:
    other = {"name": "bit_memory"}
    sweep = new_sweep(arms=("a", "b", "c"), space={}, tasks={"b": other, "c": other})
    texts = finding(sweep, a=[0.9] * 3, b=[0.8] * 3, c=[0.7] * 3)
    assert texts[0].startswith("bit_xor: `a` reaches 90.00")
    assert texts[1].startswith("bit_memory: `b` reaches 80.00")
    assert "Arms of this task are not compared: the reference has another." in texts[1]
