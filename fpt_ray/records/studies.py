"""Trials as Optuna sees them: domains as distributions, trials as frozen trials of a study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fpt_ray.records.sweep import configuration_key
from fpt_ray.records.trial import Direction, TrialRecord

if TYPE_CHECKING:
    import optuna

# Optuna wants a number for every completed trial; sampling depends on ranks only, so any value will
# do that no honest result reaches.
WORST = {"max": 0.0, "min": 1e9}
# A study has no clock of its own: its times are counted from here, so that it is the same whenever
# it is rebuilt.
EPOCH = datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)


def distribution(domain: Mapping[str, Any]) -> optuna.distributions.BaseDistribution:
    """Write a domain of the sweep file as Optuna's distribution.

    Args:
        domain: a domain as JSON, for example ``{"log_uniform": [1e-6, 1e-2]}``.
    """
    from optuna import distributions

    ((kind, values),) = domain.items()
    match kind:
        case "log_uniform":
            return distributions.FloatDistribution(values[0], values[1], log=True)
        case "uniform":
            return distributions.FloatDistribution(values[0], values[1])
        case "int_uniform":
            return distributions.IntDistribution(*values)
        case _:
            return distributions.CategoricalDistribution([to_optuna(v) for v in values])


def to_optuna(value: Any) -> bool | int | float | str | None:
    """Write a value as a categorical choice: scalars as they are, lists and mappings as JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value, sort_keys=True)


def from_optuna(domain: Mapping[str, Any], value: Any) -> Any:
    """Read a value back as it stands in the sweep file."""
    ((_, values),) = domain.items()
    return next((v for v in values if to_optuna(v) == value and isinstance(v, list | dict)), value)


def to_study_trials(
    trials: Sequence[TrialRecord],
    space: Mapping[str, Any],
    metric: str,
    direction: Direction,
) -> list[optuna.trial.FrozenTrial]:
    """Write an arm's tuning trials as the trials of an Optuna study, one for each configuration.

    Finished trials are COMPLETE, stopped ones PRUNED with all their evaluations. A diverged trial
    is COMPLETE with the worst value: Optuna's samplers ignore FAIL, and would come back to rates
    that diverge. One that failed for reasons of its own is FAIL. With several tuning seeds the
    first seed that has not finished speaks for its configuration, and the mean when all have.

    Args:
        trials: tuning trials of one arm; values outside the space (of a former edit) are left out.
        space: tuned keys and their domains, as JSON.
        metric: the validation metric.
        direction: whether a larger or smaller one is better.
    """
    groups: dict[str, list[TrialRecord]] = {}
    for trial in trials:
        groups.setdefault(configuration_key(trial.values), []).append(trial)
    distributions = {key: distribution(domain) for key, domain in space.items()}
    return [
        _frozen(group, distributions, metric, direction)
        for group in groups.values()
        if all(_holds(domain, group[0].values.get(key)) for key, domain in space.items())
    ]


def _holds(domain: Mapping[str, Any], value: Any) -> bool:
    ((kind, values),) = domain.items()
    if kind in ("grid", "choice"):
        return value in values
    return isinstance(value, int | float) and bool(values[0] <= value <= values[1])


def _frozen(
    group: Sequence[TrialRecord],
    distributions: Mapping[str, optuna.distributions.BaseDistribution],
    metric: str,
    direction: Direction,
) -> optuna.trial.FrozenTrial:
    import optuna

    states = optuna.trial.TrialState
    speaker = next((t for t in group if t.status != "finished"), group[0])
    state = {
        "running": states.RUNNING,
        "finished": states.COMPLETE,
        "stopped": states.PRUNED,
        "diverged": states.COMPLETE,
        "failed": states.FAIL,
    }[speaker.status]
    if state is states.PRUNED and not speaker.evaluations:
        state = states.FAIL
    frozen = optuna.trial.create_trial(
        state=state,
        value=_value(group, speaker, metric, direction) if state is states.COMPLETE else None,
        params={key: to_optuna(speaker.values[key]) for key in distributions},
        distributions=dict(distributions),
        intermediate_values={
            e.step: value for e in speaker.evaluations if (value := getattr(e, metric)) is not None
        },
        user_attrs={
            "trial_id": speaker.trial_id,
            "status": speaker.status,
            "seed": speaker.seed,
            "reason": speaker.reason,
        },
    )
    frozen.datetime_start = EPOCH
    return frozen


def _value(
    group: Sequence[TrialRecord], speaker: TrialRecord, metric: str, direction: Direction
) -> float:
    if speaker.status == "diverged":
        return WORST[direction]
    bests = [getattr(t.best, metric) for t in group if t.best is not None]
    return float(sum(bests) / len(bests)) if bests else WORST[direction]
