"""What a searcher tries next, as a pure function of the arm's trials so far.

Nothing is remembered between two proposals, so a driver that was killed goes on exactly where it
stopped.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fpt_ray.config import Domain, GridSearcher, OptunaSearcher, Tune
from fpt_ray.records import TrialRecord
from fpt_ray.records.studies import distribution, from_optuna, to_study_trials
from fpt_ray.seeding import derive_seed

Values = dict[str, Any]
# A space that yields nothing new in this many draws is, to all purposes, exhausted.
MAX_DRAWS = 1000
# A model that insists on configurations that the arm has already is given up for random draws.
MAX_MODEL_DRAWS = 10


def propose(
    tune: Tune,
    seed: int,
    slot: int,
    trials: Sequence[TrialRecord],
    is_known: Callable[[Values], bool],
) -> Values | None:
    """Propose an arm's next configuration.

    Every draw is seeded by (sweep seed, slot): equal slots of all arms draw alike, and a slot draws
    alike before and after a restart. A configuration that the arm has already is never proposed
    again.

    Args:
        tune: the ``tune`` section of the sweep file.
        seed: the sweep's seed.
        slot: the number of the configuration in its arm, from 0.
        trials: the arm's tuning trials so far, running ones included.
        is_known: tells whether the arm has a configuration already.

    Returns:
        The tuned values by dotted key, or None if the space holds no further configuration.
    """
    if isinstance(tune.searcher, GridSearcher):
        return next((values for values in _grid(tune.space) if not is_known(values)), None)
    for draw in range(MAX_DRAWS):
        draw_seed = derive_seed(seed, tune.searcher.name, slot, draw)
        if isinstance(tune.searcher, OptunaSearcher) and draw < MAX_MODEL_DRAWS:
            values = _optuna(tune, draw_seed, trials)
        else:
            values = _random(tune.space, draw_seed)
        if not is_known(values):
            return values
    return None


def _grid(space: Mapping[str, Domain]) -> list[Values]:
    axes = [[(key, value) for value in domain.probes] for key, domain in space.items()]
    return [dict(point) for point in itertools.product(*axes)]


def _random(space: Mapping[str, Domain], seed: int) -> Values:
    rng = np.random.default_rng(seed)
    return {key: _draw(domain, rng) for key, domain in space.items()}


def _draw(domain: Domain, rng: np.random.Generator) -> Any:
    if domain.kind in ("grid", "choice"):
        return domain.probes[int(rng.integers(len(domain.probes)))]
    low, high = domain.probes
    if domain.kind == "int_uniform":
        return int(rng.integers(low, high, endpoint=True))
    if domain.kind == "log_uniform":
        return min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high)
    return float(rng.uniform(low, high))


def _optuna(tune: Tune, seed: int, trials: Sequence[TrialRecord]) -> Values:
    """Ask Optuna's tree-structured Parzen estimator, over a study rebuilt from the trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {key: domain.model_dump(mode="json") for key, domain in tune.space.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # constant_liar keeps concurrent trials from being sent to the same place.
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, constant_liar=True)
        study = optuna.create_study(
            direction="maximize" if tune.direction == "max" else "minimize", sampler=sampler
        )
        study.add_trials(to_study_trials(trials, space, tune.metric, tune.direction))
        asked = study.ask({key: distribution(domain) for key, domain in space.items()})
    return {key: from_optuna(space[key], value) for key, value in asked.params.items()}
