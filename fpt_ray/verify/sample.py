"""Choose trials of a sweep that stand for all of them: arms, tuned values and seeds mixed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fpt_ray.config import Domain, Sweep, TrialSettings
from fpt_ray.seeding import trial_seed

VALIDATION_SIZE = 16
"""Sequences that are evaluated after each step."""

_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Sample:
    """A trial as the sweep could have it, shortened and made comparable.

    Attributes:
        arm: the arm's name.
        values: the tuned values by dotted key.
        stage: ``tune`` or ``final``.
        seed: as the sweep gives it to trials of that stage.
        settings: what it computes: in fp32, without dropout, with a small validation split.
    """

    arm: str
    values: Mapping[str, Any]
    stage: str
    seed: int
    settings: TrialSettings

    @property
    def name(self) -> str:
        """Name it in words, such as ``output/random, learning_rate 0.001, final seed 7``."""
        tuned = [f"{key.rpartition('.')[2]} {_short(value)}" for key, value in self.values.items()]
        return ", ".join([self.arm, *tuned, f"{self.stage} seed {self.seed}"])


def sample_trials(sweep: Sweep, num_trials: int, num_steps: int) -> tuple[Sample, ...]:
    """Choose trials round by round, one of every arm in a round.

    Where there are fewer trials than arms, the arms are equally far apart. Trials of one round
    share their seed, as in the sweep; rounds alternate between the seeds of the search and those of
    the finalists. Tuned values spread over their domains from trial to trial.

    Args:
        sweep: the sweep.
        num_trials: how many; fewer are found where the sweep has no more.
        num_steps: updates that each shall be able to make.
    """
    arms = sweep.arms
    chosen: Sequence[int] = range(len(arms))
    if num_trials < len(arms):
        chosen = [index * len(arms) // num_trials for index in range(num_trials)]
    pairs = ((seed, arms[index]) for seed in _seeds(sweep) for index in chosen)
    samples: dict[str, Sample] = {}
    # A sweep's trials are finite in number: beyond so many draws, what comes is there already.
    for number, ((stage, seed), arm) in enumerate(itertools.islice(pairs, 4 * num_trials)):
        values = spread(sweep.tune.space if sweep.tune else {}, number)
        settings = arm.settings.with_values({**values, **_comparable(sweep, num_steps)})
        sample = Sample(arm.name, values, stage, seed, settings)
        samples.setdefault(sample.name, sample)
    return tuple(samples.values())[:num_trials]


def spread(space: Mapping[str, Domain], number: int) -> dict[str, Any]:
    """Give a configuration's values, such that consecutive ones cover every domain evenly.

    Args:
        space: dotted key to domain.
        number: which configuration, from 0.

    Source: for one key the additive recurrence of the golden ratio, whose gaps stay as equal as
    they can be; its powers tell further keys apart.
    """
    return {
        key: _value_at(domain, (0.5 + number * _GOLDEN**power) % 1)
        for power, (key, domain) in enumerate(space.items(), start=1)
    }


def _value_at(domain: Domain, share: float) -> Any:
    """Find the value that lies so far from a domain's low end to its high end, in [0, 1)."""
    if domain.kind in ("grid", "choice"):
        return domain.probes[int(share * len(domain.probes))]
    low, high = domain.probes
    if domain.kind == "int_uniform":
        return low + int(share * (high - low + 1))
    if domain.kind == "log_uniform":
        return float(f"{low * (high / low) ** share:.6g}")
    return float(f"{low + share * (high - low):.6g}")


def _seeds(sweep: Sweep) -> Iterator[tuple[str, int]]:
    """Alternate between the stages' seeds, without end."""
    stages = {"tune": sweep.tune.seeds if sweep.tune else 0, "final": sweep.final.seeds}
    for index in itertools.count():
        for stage, num_seeds in stages.items():
            if num_seeds:
                yield stage, trial_seed(sweep.seed, stage, index % num_seeds)


def _comparable(sweep: Sweep, num_steps: int) -> dict[str, Any]:
    return {
        "training.dropout": 0.0,
        "training.precision": "fp32",
        "training.max_steps": max(num_steps, sweep.training.max_steps),
        "training.validation_size": VALIDATION_SIZE,
    }


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
