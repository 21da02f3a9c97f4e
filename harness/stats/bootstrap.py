"""Bootstrap intervals over whole clusters: BCa, and plain percentiles where BCa does not exist."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np

from .clusters import ROUNDING, Clusters, Floats, TooFewPrompts, constant, standard_error
from .intervals import Interval, check_level, exact, method_name, student
from .resampling import left_out, replicates

NORMAL = NormalDist()


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

    Limits are the replicates' quantiles Φ(z₀ + (z₀ + z) / (1 - a(z₀ + z))): z₀ = Φ⁻¹(share of replicates below the value,
    equal ones half), a = Σu³ / 6(Σu²)^1.5 with u how far the statistic falls short of its mean when a cluster is left out
    (Efron & Tibshirani 1993, equations 14.9-14.15). z lies a little further out than `level`, by what a bootstrap of G
    clusters falls short of Student's t (Hesterberg 2015). The statistic is computed afresh for every resample: see
    `replicates`. Without one it is the mean, and the standard error is the cluster-robust one; else that of the replicates.

    Methods: `bca`; `exact-constant` where no cluster differs from another, with low = high and standard error 0;
    `percentile` where BCa does not exist (every replicate on one side of the value, or an undefined one), widened to
    hold the value. With `-clustered` where prompts share roots. Raises TooFewPrompts for a single cluster or an
    undefined statistic, ValueError unless 0 < level < 1.
    """
    return _bootstrap(columns, clusters, statistic, level, resamples, seed, corrected=True)


def percentile(
    columns: Floats,
    clusters: Clusters,
    statistic: Callable[..., Any] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The replicates' quantiles themselves (Efron 1979), at Hesterberg's level; all else as for `bca`.

    For a statistic whose jackknife means nothing, such as a rank or a median; for a mean BCa covers better.
    """
    return _bootstrap(columns, clusters, statistic, level, resamples, seed, corrected=False)


def _bootstrap(
    columns: Floats,
    clusters: Clusters,
    statistic: Callable[..., Any] | None,
    level: float,
    resamples: int,
    seed: int,
    *,
    corrected: bool,
) -> Interval:
    check_level(level)
    clusters.require_several()
    values = columns[0]
    if statistic is None and constant(clusters.means(values)):
        # The mean of equal numbers need not be that number in floating point.
        return exact(float(values[0] if constant(values) else values.mean()))
    value = float(values.mean() if statistic is None else statistic(*columns))
    if not math.isfinite(value):
        raise TooFewPrompts(f"the statistic is undefined for these {clusters.n} observations; evaluate more prompts")

    found = replicates(columns, clusters, statistic, resamples=resamples, seed=seed)
    defined = found[np.isfinite(found)]
    if len(defined) < 2:
        raise TooFewPrompts("the statistic is undefined for resamples of these observations; evaluate more prompts")
    if len(defined) == len(found) and constant(np.append(defined, value)):
        return exact(value)
    error = standard_error(values, clusters) if statistic is None else float(defined.std(ddof=1))
    level = min(_expanded(level, clusters.count), 1 - 1 / len(found))
    shares = None
    if corrected and len(defined) == len(found):
        shares = _corrected(value, found, left_out(columns, clusters, statistic, seed=seed), level)
    if shares is not None:
        low, high = map(float, np.quantile(defined, shares))
        return Interval(value, low, high, error, method_name("bca", clusters), len(found))
    low, high = map(float, np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]))
    return Interval(value, min(low, value), max(high, value), error, method_name("percentile", clusters), len(found))


def _corrected(value: float, found: Floats, without: Floats, level: float) -> tuple[float, float] | None:
    """Which share of the replicates lies below each BCa limit; None where there is no such share."""
    near = ROUNDING * float(np.abs(found).max())
    below = float((found < value - near).mean() + (np.abs(found - value) <= near).mean() / 2)
    short = without.mean() - without
    squares = float(np.square(short).sum())
    if not (0 < below < 1 and math.isfinite(squares) and squares > 0):
        return None
    bias, acceleration = NORMAL.inv_cdf(below), float((short**3).sum()) / (6 * squares**1.5)
    shifted = [bias + sign * NORMAL.inv_cdf((1 + level) / 2) for sign in (-1, 1)]
    if any(acceleration * each >= 1 for each in shifted):
        return None
    low, high = (NORMAL.cdf(bias + each / (1 - acceleration * each)) for each in shifted)
    return low, high


def _expanded(level: float, count: int) -> float:
    """1 - 2Φ(-t_{G-1} · sqrt(G / (G - 1))): the normal level as wide as Student's interval for G clusters."""
    return 1 - 2 * NORMAL.cdf(-student(level, count - 1) * math.sqrt(count / (count - 1)))
