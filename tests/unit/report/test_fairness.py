"""Fairness checks: each doubt is found, with consequence and mend; a fair sweep has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fpt_ray.report.fairness import CHECKS, FairnessFinding, check_fairness, fairness_section
from fpt_ray.report.results import collect

RATES = (1e-4, 1e-3, 1e-2)


def found(sweep: Any, **changes: Any) -> list[FairnessFinding]:
    record = sweep.record(**changes)
    return list(check_fairness(record, collect(record)))


def of(check: str, findings: list[FairnessFinding]) -> list[FairnessFinding]:
    return [each for each in findings if each.check == check]


@pytest.fixture
def fair(new_sweep: Any) -> Any:
    """Two arms that were treated alike, of which one is clearly better."""
    sweep = new_sweep(num_seeds=5)
    for arm, best in (("pretrained", 0.9), ("random", 0.6)):
        for rate, accuracy in zip(RATES, (best - 0.1, best, best - 0.2), strict=True):
            sweep.tune(arm, rate, [0.5, 0.5, accuracy])
        for index in range(5):
            sweep.final(arm, 1e-3, index, best + index / 100)
    return sweep


def test_a_fair_sweep_is_told_to_have_passed_all_six(fair: Any) -> None:
    findings = found(fair)
    assert findings == []
    assert len(CHECKS) == 6
    assert fairness_section(findings, collect(fair.record())).startswith(
        "All six were looked at, and none applies: no chosen value lies at the edge of its range; "
    )


def test_a_best_value_at_the_edge_may_be_beaten_beyond_it(finished: Any) -> None:
    (edge,) = of("edge", found(finished))
    assert edge.arms == ("random",)
    assert str(edge) == (
        "`random`: the best learning_rate, 0.01, lies at the upper edge of its range. A better one "
        "may lie beyond, so this arm may be worth more than is shown. Add larger values to "
        "tune.space for training.learning_rate and run again: only what is new is trained."
    )


def test_a_range_cannot_be_widened_in_place(new_sweep: Any) -> None:
    key = "training.learning_rate"
    sweep = new_sweep(arms=("a",), space={key: {"log_uniform": [1e-4, 1e-2]}})
    sweep.tune("a", 1.01e-4, [0.5, 0.6, 0.7])
    (edge,) = of("edge", found(sweep))
    assert "Add smaller values" in edge.mend
    assert "under another name" in edge.mend


def test_an_arm_with_fewer_trials_is_at_a_disadvantage(fair: Any) -> None:
    fair.trials = [t for t in fair.trials if (t.arm, t.values) != ("random", {RATE: 1e-2})]
    (budget,) = of("budget", found(fair))
    assert budget.fact == (
        "Arms have unequal budgets: tuning trials that ended 3 (`pretrained`), 2 (`random`)."
    )
    assert budget.consequence.startswith("An arm that got more is favoured")


RATE = "training.learning_rate"


def test_trials_that_were_stopped_early_are_no_unequal_budget(fair: Any) -> None:
    fair.trials = [
        replace(t, evaluations=t.evaluations[:1], status="stopped")
        if (t.arm, t.values[RATE], t.stage) == ("random", 1e-2, "tune")
        else t
        for t in fair.trials
    ]
    assert of("budget", found(fair)) == []


def test_fewer_final_seeds_than_another_arm_are_an_unequal_budget(fair: Any) -> None:
    fair.trials.pop()
    findings = found(fair)
    (budget,) = of("budget", findings)
    assert "final seeds that ended 5 (`pretrained`), 4 (`random`)" in budget.fact
    (few,) = of("few_seeds", findings)
    assert few.fact == "Arms rest on fewer than 5 final seeds: 4 (`random`)."
    assert few.mend == "Run the sweep again to its end."


def test_larger_batches_see_more_data(fair: Any) -> None:
    record = fair.record()
    arms = [
        {
            "name": arm.name,
            "labels": arm.labels,
            "settings": {**arm.settings, "training": {"batch_size": 8 + 8 * index}},
        }
        for index, arm in enumerate(record.arms)
    ]
    (budget,) = of("budget", found(fair, arms=arms))
    assert "batch_size 8 (`pretrained`), 16 (`random`)" in budget.fact


def test_few_seeds_tell_little_of_the_spread(finished: Any) -> None:
    (few,) = of("few_seeds", found(finished))
    assert few.fact == "Every arm rests on 3 final seeds."
    assert few.mend.startswith("Set final.seeds to 5 or more and run again")


def test_an_interval_that_covers_zero_establishes_nothing(new_sweep: Any) -> None:
    sweep = new_sweep(space={}, num_seeds=5)
    for index, difference in enumerate((0.1, -0.1, 0.05, -0.05, 0.02)):
        sweep.final("pretrained", None, index, 0.8)
        sweep.final("random", None, index, 0.8 + difference)
    (covers,) = of("covers_zero", found(sweep))
    assert covers.arms == ("random", "pretrained")
    assert covers.fact.endswith("points, covers zero.")
    assert covers.consequence == (
        "It is not established which of the two is better, nor that they are equal."
    )


def test_equal_results_on_all_seeds_establish_nothing(new_sweep: Any) -> None:
    sweep = new_sweep(space={}, num_seeds=5)
    for index in range(5):
        sweep.final("pretrained", None, index, 1.0)
        sweep.final("random", None, index, 1.0)
    (covers,) = of("covers_zero", found(sweep))
    assert covers.fact == (
        "`random` and `pretrained` have the same test accuracy on each of 5 seeds."
    )
    assert covers.mend == "A harder task, or fewer steps, may tell them apart."


def test_superseded_finalists_have_shown_the_test_split(fair: Any) -> None:
    fair.tune("pretrained", 3e-3, [0.9, 0.95, 0.99])
    (again,) = of("test_read_again", found(fair))
    assert again.arms == ("pretrained",)
    assert "5 finalists of a configuration that has been superseded since" in again.fact


def test_a_finalist_that_went_on_has_read_test_twice(fair: Any) -> None:
    last = fair.trials[-1]
    first = replace(last.evaluations[0], test_accuracy=0.5, test_loss=1.0)
    fair.trials[-1] = replace(last, evaluations=(first, *last.evaluations[1:]))
    (again,) = of("test_read_again", found(fair))
    assert again.fact == (
        "`random` has read the test split more than once: 1 reading by finalists that went on "
        "after max_steps was raised."
    )


def test_lost_tuning_trials_leave_fewer_candidates(searched: Any) -> None:
    searched.fail("out of memory")
    lost = {each.arms: each for each in of("lost_trials", found(searched))}
    assert lost["pretrained",].fact == "`pretrained`: 1 tuning trial diverged."
    assert "smaller learning rates" in lost["pretrained",].mend
    assert lost["random",].fact == "`random`: 1 tuning trial failed."
    assert "failed trials are tried anew" in lost["random",].mend
    assert "fewer candidates" in lost["random",].consequence


def test_a_lost_final_seed_takes_the_mean(searched: Any) -> None:
    searched.final("random", 1e-2, 0, None)
    lost = {each.arms: each for each in of("lost_trials", found(searched))}
    assert lost["random",].fact == "`random`: 1 final trial diverged."
    assert "no mean and no comparison" in lost["random",].consequence


def test_what_passed_is_told_beside_what_did_not(finished: Any) -> None:
    text = fairness_section(found(finished), collect(finished.record()))
    assert text.startswith("- `random`: the best learning_rate, 0.01, lies at the upper edge")
    assert "\n\nAlso looked at: all arms have the same budget; " in text


def test_fewer_final_seeds_are_no_favour(searched: Any) -> None:
    searched.final("random", 1e-2, 0, 0.5)
    (budget,) = [each for each in of("budget", found(searched)) if "final seeds" in each.fact]
    assert budget.consequence == "Means and differences of arms that got fewer rest on less."


def test_a_check_without_matter_says_so(new_sweep: Any) -> None:
    sweep = new_sweep(arms=("a",), space={})
    record = sweep.record()
    text = fairness_section([], collect(record))
    assert "nothing was tuned, or nothing is chosen yet" in text
    assert "there is one arm" in text
    assert "there is no comparison yet" in text
