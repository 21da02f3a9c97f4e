"""Confidence intervals: Wilson's for 0/1 rates, the BCa bootstrap over whole clusters for everything else."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from .clusters import Clusters, Floats, Indices, TooFewPrompts, constant, effective_size, standard_error

BATCH_ELEMENTS = 1_000_000
"""How many resampled observations are held in memory at a time."""


@dataclass(frozen=True)
class Interval:
    """A value with its interval, its standard error (None where the sample cannot tell) and the method."""

    value: float
    low: float
    high: float
    standard_error: float | None
    method: str


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a rate (Wilson 1927; Brown, Cai & DasGupta 2001, section 3.1.1).

    (p + z²/2n ± z·sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n) with p = successes / n. Both counts may be fractions:
    effective counts of a clustered sample (Dean & Pagano 2015). Raises ValueError unless 0 <= successes <= n, 0 < n and
    0 < level < 1.
    """
    _check_level(level)
    if not (n > 0 and 0 <= successes <= n):
        raise ValueError(f"{successes} successes of {n}")
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    rate = successes / n
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * rate * (1 - rate) / n + (z2 / (2 * n)) ** 2) / (1 + z2 / n)
    # The limits are exactly 0 and 1 there; rounding would leave 1e-18.
    return (0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half)


def rate_interval(values: Floats, clusters: Clusters, level: float = 0.95) -> Interval:
    """Wilson's interval for the mean of 0/1 `values` (n,), from the effective sample size where prompts share roots.

    A design effect estimated from G clusters is itself uncertain, so the effective size shrinks by (t_{n-1} / t_{G-1})²
    more (Korn & Graubard 1998). A constant sample, or one cluster, has an interval and no standard error: 0 would claim
    certainty. Raises ValueError unless 0 < level < 1.
    """
    _check_level(level)
    rate, size, error = float(values.mean()), effective_size(values, clusters), None
    if clusters.count > 1 and not constant(values):
        error = standard_error(values, clusters)
        if clusters.count < clusters.n:
            size *= (_student(level, clusters.n - 1) / _student(level, clusters.count - 1)) ** 2
    low, high = wilson(rate * size, size, level)
    return Interval(rate, low, high, error, _method("wilson", clusters))


def bca(
    columns: Floats,
    clusters: Clusters,
    statistic: Callable[..., Any] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Bias-corrected and accelerated bootstrap (Efron 1987) of a statistic of `columns` (k, n) over whole clusters.

    Clusters are drawn with replacement, each with all of its observations in every column (Field & Welsh 2007), so
    columns stay paired and siblings stay together; acceleration comes from leaving out one cluster at a time. The
    quantiles lie a little further out than `level`, by what a bootstrap of G clusters falls short of Student's t
    (Hesterberg 2015). `statistic` gets the k columns, each of shape (..., n'), and returns shape (...): it is computed
    afresh for every resample. Without one it is the mean of the only column, and the standard error is the
    cluster-robust one; else that of the replicates.

    Methods: `bca`; `exact-constant` where no cluster differs from another, with low = high and standard error 0;
    `percentile` where BCa does not exist (every replicate on one side of the value, or an undefined one), widened to
    hold the value. With `-clustered` where prompts share roots. Raises TooFewPrompts for a single cluster or an
    undefined statistic, ValueError unless 0 < level < 1.
    """
    _check_level(level)
    clusters.require_several()
    if statistic is None:
        values = columns[0]
        if constant(clusters.means(values)):
            # The mean of equal numbers need not be that number in floating point.
            return _exact(float(values[0] if constant(values) else values.mean()))
        value, replicate = float(values.mean()), _mean(values, clusters)
    else:
        value, replicate = float(statistic(*columns)), _refit(columns, clusters, statistic)
    if not math.isfinite(value):
        raise TooFewPrompts(f"the statistic is undefined for these {clusters.n} observations; evaluate more prompts")

    level = min(_expanded(level, clusters.count), 1 - 1 / resamples)
    low, high, replicates = _scipy_bca(replicate, clusters, level, resamples, seed)
    defined = replicates[np.isfinite(replicates)]
    if len(defined) < 2:
        raise TooFewPrompts("the statistic is undefined for resamples of these observations; evaluate more prompts")
    if len(defined) == len(replicates) and constant(np.append(defined, value)):
        return _exact(value)
    error = standard_error(columns[0], clusters) if statistic is None else float(defined.std(ddof=1))
    if len(defined) == len(replicates) and math.isfinite(low) and math.isfinite(high):
        return Interval(value, low, high, error, _method("bca", clusters))
    low, high = map(float, np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]))
    return Interval(value, min(low, value), max(high, value), error, _method("percentile", clusters))


def _scipy_bca(
    replicate: Callable[[Indices], Floats], clusters: Clusters, level: float, resamples: int, seed: int
) -> tuple[float, float, Floats]:
    """Low and high limit, NaN where they do not exist, and the replicates (resamples,)."""
    from scipy import stats

    # A degenerate jackknife divides 0 by 0; the caller looks at the NaN that comes of it.
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(
            (np.arange(clusters.count),),
            lambda draws, axis: replicate(np.moveaxis(draws, axis, -1).astype(np.intp, copy=False)),
            n_resamples=resamples,
            batch=max(1, min(resamples, BATCH_ELEMENTS // clusters.n)),
            vectorized=True,
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(seed),
        )
    interval = result.confidence_interval
    return float(interval.low), float(interval.high), np.asarray(result.bootstrap_distribution)


def _mean(values: Floats, clusters: Clusters) -> Callable[[Indices], Floats]:
    """The mean of drawn clusters, from their sums and sizes alone: (..., G) -> (...)."""
    sums, sizes = clusters.sums(values), clusters.sizes
    return lambda draws: np.asarray(sums[draws].sum(axis=-1) / sizes[draws].sum(axis=-1))


def _refit(columns: Floats, clusters: Clusters, statistic: Callable[..., Any]) -> Callable[[Indices], Floats]:
    """The statistic of drawn clusters: (..., G) -> (...).

    Clusters differ in size, so resamples differ in length; those of one length are computed in one call.
    """

    def replicate(draws: Indices) -> Floats:
        flat = draws.reshape(-1, draws.shape[-1])
        lengths = clusters.sizes[flat].sum(axis=-1)
        by_length = np.argsort(lengths, kind="stable")
        rows = clusters.rows(flat[by_length].ravel())
        values = np.empty(len(flat))
        done = used = 0
        for length, count in zip(*np.unique(lengths, return_counts=True), strict=True):
            block = rows[used : used + length * count].reshape(count, length)
            values[by_length[done : done + count]] = statistic(*(column[block] for column in columns))
            done, used = done + count, used + length * count
        return values.reshape(draws.shape[:-1])

    return replicate


def _exact(value: float) -> Interval:
    return Interval(value, value, value, 0.0, "exact-constant")


def _method(name: str, clusters: Clusters) -> str:
    return name if clusters.count == clusters.n else f"{name}-clustered"


def _student(level: float, freedom: int) -> float:
    """The two-sided critical value of Student's t."""
    from scipy import stats

    return float(stats.t.ppf((1 + level) / 2, freedom))


def _expanded(level: float, count: int) -> float:
    """1 - 2Φ(-t_{G-1} · sqrt(G / (G - 1))): the normal level as wide as Student's interval for G clusters."""
    return 1 - 2 * NormalDist().cdf(-_student(level, count - 1) * math.sqrt(count / (count - 1)))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1")
