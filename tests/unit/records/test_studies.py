from __future__ import annotations

from typing import Any

import optuna
import pytest

from fpt_ray.records import TrialRecord
from fpt_ray.records.studies import WORST, distribution, from_optuna, to_study_trials
from tests.unit.records.test_sweep import trial

SPACE: dict[str, Any] = {"x": {"grid": ["1", "2"]}}


def frozen(*trials: TrialRecord) -> list[optuna.trial.FrozenTrial]:
    return to_study_trials(trials, SPACE, "validation_accuracy", "max")


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        (
            {"log_uniform": [1e-4, 1e-2]},
            optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
        ),
        ({"uniform": [0.0, 1.0]}, optuna.distributions.FloatDistribution(0.0, 1.0)),
        ({"int_uniform": [1, 6]}, optuna.distributions.IntDistribution(1, 6)),
        ({"choice": ["a", 1]}, optuna.distributions.CategoricalDistribution(["a", 1])),
    ],
)
def test_domains_become_distributions(domain: dict[str, Any], expected: object) -> None:
    assert distribution(domain) == expected


def test_lists_survive_the_way_through_optuna() -> None:
    domain = {"choice": [["output"], ["output", "input"]]}
    choices = distribution(domain).choices  # type: ignore[attr-defined]
    assert [from_optuna(domain, choice) for choice in choices] == domain["choice"]


def test_states_say_how_trials_ended() -> None:
    states = optuna.trial.TrialState
    stopped = trial("1", 0.4, status="stopped")
    assert frozen(stopped)[0].state is states.PRUNED
    assert frozen(stopped)[0].intermediate_values == {10: 0.4}
    assert frozen(trial("1", 0.9))[0].value == 0.9
    assert frozen(trial("1", 0.9, status="running"))[0].state is states.RUNNING
    assert frozen(trial("1", 0.9, status="failed"))[0].state is states.FAIL


def test_a_diverged_trial_counts_as_the_worst() -> None:
    diverged = frozen(trial("1", 0.9, status="diverged"))[0]
    assert diverged.state is optuna.trial.TrialState.COMPLETE
    assert diverged.value == WORST["max"]


def test_tuning_seeds_of_one_configuration_are_one_trial() -> None:
    pair = [trial("1", 1.0, values={"x": "1"}), trial("2", 0.5, values={"x": "1"}, seed_index=1)]
    assert [t.value for t in frozen(*pair)] == [0.75]
    unfinished = trial("2", 0.5, values={"x": "1"}, status="running")
    assert frozen(pair[0], unfinished)[0].state is optuna.trial.TrialState.RUNNING


def test_values_outside_the_space_are_left_out() -> None:
    assert frozen(trial("7", 0.9)) == []
