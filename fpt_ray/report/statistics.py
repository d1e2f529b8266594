"""The numbers of the final table: one arm over its final seeds, and two arms on common seeds.

Everything here takes plain numbers and returns plain numbers, in the unit that it was given. What
cannot be estimated is None and never zero: an interval from one seed, a test of differences that
do not vary, a mean over the seeds that survived.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
MIN_BOOTSTRAP_SEEDS = 20
_NUM_RESAMPLES = 9999
_BOOTSTRAP_SEED = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval and how it was made: ``t``, ``wilson`` or ``bootstrap``."""

    low: float
    high: float
    method: str

    def covers(self, value: float) -> bool:
        """Tell whether a value lies inside, bounds included."""
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class ArmStatistics:
    """One arm's test accuracy over its final seeds; None where it cannot be told.

    ``num_done`` of ``num_planned`` seeds were tested and ``num_lost`` diverged or failed. A lost
    seed takes the mean away, because a mean over the survivors would hide just the seeds that
    went wrong.
    """

    num_done: int
    num_planned: int
    num_lost: int = 0
    mean: float | None = None
    std: float | None = None
    interval: Interval | None = None
    bootstrap: Interval | None = None


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """An arm minus the reference arm on the seeds that both were tested with."""

    num_pairs: int
    mean: float
    std: float | None = None
    correlation: float | None = None
    interval: Interval | None = None
    p: float | None = None
    p_holm: float | None = None


def summarize(
    values: Sequence[float], num_planned: int, num_lost: int = 0, test_size: int | None = None
) -> ArmStatistics:
    """Estimate an arm's mean and its interval.

    Args:
        values: test accuracy of every tested seed, in [0, 1].
        num_planned: how many seeds the sweep asks for.
        num_lost: how many of them diverged or failed.
        test_size: examples in the test split, for the interval of seeds that are all equal.
    """
    done = len(values)
    if num_lost or not done:
        return ArmStatistics(done, num_planned, num_lost)
    if done == 1:
        return ArmStatistics(done, num_planned, mean=float(values[0]))
    mean, std = _mean_and_std(values)
    if std == 0.0:
        wilson = wilson_interval(mean, test_size) if test_size else None
        return ArmStatistics(done, num_planned, mean=mean, std=std, interval=wilson)
    bootstrap = bootstrap_interval(values) if done >= MIN_BOOTSTRAP_SEEDS else None
    return ArmStatistics(done, num_planned, 0, mean, std, t_interval(values), bootstrap)


def t_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % t interval of a mean; None for one value, or values without spread.

    Source: mean ± t(0.975, n - 1) * s / sqrt(n); Student, "The probable error of a mean",
    Biometrika 6 (1908).
    """
    if len(values) < 2:
        return None
    mean, std = _mean_and_std(values)
    if std == 0.0:
        return None
    quantile = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1))
    half = quantile * std / math.sqrt(len(values))
    return Interval(mean - half, mean + half, "t")


def wilson_interval(proportion: float, num_examples: int) -> Interval:
    """Return the 95 % Wilson score interval of a proportion.

    Seeds that all agree say nothing about spread, but the test set is still a finite sample.
    Where an example holds several decisions (bits), examples are counted, which is the cautious
    side because its decisions are not independent.

    Args:
        proportion: the share that is right, in [0, 1].
        num_examples: size of the test split, at least 1.

    Raises:
        ValueError: if either is out of range.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA
    22 (1927).
    """
    if not 0.0 <= proportion <= 1.0 or num_examples < 1:
        raise ValueError(f"no Wilson interval for {proportion} of {num_examples} examples")
    z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
    weight = 1.0 + z**2 / num_examples
    centre = (proportion + z**2 / (2 * num_examples)) / weight
    variance = proportion * (1 - proportion) / num_examples + z**2 / (4 * num_examples**2)
    half = z * math.sqrt(variance) / weight
    return Interval(max(0.0, centre - half), min(1.0, centre + half), "wilson")


def bootstrap_interval(values: Sequence[float]) -> Interval | None:
    """Return the seeded 95 % BCa bootstrap interval of a mean; None where it is undefined.

    Raises:
        ValueError: for fewer than 20 values, where the bootstrap is known to be too narrow.

    Source: Efron, "Better bootstrap confidence intervals", JASA 82 (1987), as in
    ``scipy.stats.bootstrap``.
    """
    if len(values) < MIN_BOOTSTRAP_SEEDS:
        raise ValueError(f"bootstrap needs {MIN_BOOTSTRAP_SEEDS} values, got {len(values)}")
    if _mean_and_std(values)[1] == 0.0:
        return None
    result = stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=_NUM_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(_BOOTSTRAP_SEED),
    )
    low, high = (float(bound) for bound in result.confidence_interval)
    return Interval(low, high, "bootstrap") if math.isfinite(low + high) else None


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float]
) -> PairedDifference | None:
    """Compare an arm with the reference on their common seeds; None without any.

    Equal seeds see equal batches in every arm, so the pairs share that part of the randomness;
    the correlation says how much. Differences without spread have neither interval nor p: the t
    test divides by their deviation.

    Args:
        values: seed -> test accuracy of the arm.
        reference: seed -> test accuracy of the reference arm.

    Source: the paired t test, t = mean(d) / (s_d / sqrt(n)) with n - 1 degrees of freedom;
    Student (1908).
    """
    seeds = sorted(values.keys() & reference.keys())
    if not seeds:
        return None
    ours, theirs = [values[seed] for seed in seeds], [reference[seed] for seed in seeds]
    differences = [our - their for our, their in zip(ours, theirs, strict=True)]
    if len(seeds) == 1:
        return PairedDifference(1, differences[0])
    mean, std = _mean_and_std(differences)
    p = float(stats.ttest_rel(ours, theirs).pvalue) if std > 0.0 else None
    interval = t_interval(differences)
    return PairedDifference(len(seeds), mean, std, _correlation(ours, theirs), interval, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for the number of tests, keeping their order.

    The i-th smallest of m is multiplied by m - i + 1; no corrected value is smaller than one
    before it, none exceeds 1.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics
    6 (1979).
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def _mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample deviation; values that differ by rounding only count as equal.

    Without that, 0.7 - 0.6 and 0.8 - 0.7 would have a spread of 1e-16 and hence a p value of
    nearly zero.
    """
    array = np.asarray(values, dtype=float)
    std = float(array.std(ddof=1))
    return float(array.mean()), 0.0 if std < 1e-12 else std


def _correlation(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    if _mean_and_std(ours)[1] == 0.0 or _mean_and_std(theirs)[1] == 0.0:
        return None
    return float(np.corrcoef(ours, theirs)[0, 1])
