"""Intervals for rates, means of values in [0, 1] and paired differences of rates. None of them resamples."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from .clusters import Clusters, Floats, constant, effective_size, standard_error
from .intervals import Interval, check_level, exact, method_name, student


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a rate (Wilson 1927; Brown, Cai & DasGupta 2001, section 3.1.1).

    (p + z²/2n ± z·sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n) with p = successes / n. Both counts may be fractions:
    effective counts of a clustered sample (Dean & Pagano 2015). Raises ValueError unless 0 <= successes <= n, 0 < n and
    0 < level < 1.
    """
    _check_counts(successes, n, level)
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    rate = successes / n
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * rate * (1 - rate) / n + (z2 / (2 * n)) ** 2) / (1 + z2 / n)
    # The limits are exactly 0 and 1 there; rounding would leave 1e-18.
    return (0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval for a rate (Clopper & Pearson 1934): quantiles of beta(k, n - k + 1) and beta(k + 1, n - k).

    Never covers less than `level`, so mostly more: for a bound that has to hold, where Wilson's holds on average. Raises
    ValueError unless 0 <= successes <= n, 0 < n and 0 < level < 1.
    """
    from scipy import stats

    _check_counts(successes, n, level)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(stats.beta.isf(tail, successes + 1, n - successes))
    return low, high


def rate_interval(values: Floats, clusters: Clusters, level: float = 0.95) -> Interval:
    """Wilson's interval for the mean of `values` (n,) in [0, 1], from the size of a 0/1 sample that is worth as much.

    Siblings lower that size (`effective_size`); ties and other values between 0 and 1 raise it by p(1 - p) over their
    variance, for they vary less than a coin of the same rate. A design effect estimated from G clusters is itself
    uncertain, so the size shrinks by (t_{n-1} / t_{G-1})² more (Korn & Graubard 1998), and by (z / t_{G-1})² where the
    variance is estimated and not p(1 - p). A constant sample of 0s or 1s, or one cluster of such values, has an interval
    and no standard error: 0 would claim certainty. Other values whose clusters do not differ are `exact-constant`.
    Raises TooFewPrompts for one cluster of other values, and ValueError unless 0 < level < 1.
    """
    check_level(level)
    binary = bool(np.isin(values, (0, 1)).all())
    if not binary:
        clusters.require_several()
        if constant(clusters.means(values)):
            return exact(float(values[0] if constant(values) else values.mean()))
    rate, size, error = float(values.mean()), effective_size(values, clusters), None
    if clusters.count > 1 and not constant(values):
        error = standard_error(values, clusters)
    if not binary:
        z = NormalDist().inv_cdf((1 + level) / 2)
        size *= rate * (1 - rate) / float(values.var()) * (z / student(level, clusters.count - 1)) ** 2
    elif error is not None:
        size *= _few_clusters(clusters, level)
    low, high = wilson(rate * size, size, level)
    return Interval(rate, low, high, error, method_name("wilson", clusters))


def rate_difference_interval(differences: Floats, clusters: Clusters, level: float = 0.95) -> Interval:
    """Agresti & Min's interval for the paired difference of two rates, from `differences` (n,) of -1, 0 and 1.

    Half a pair is added to each of the four cells: with b pairs of 1 and c of -1, p₁ = (b + ½) / (n + 2),
    p₂ = (c + ½) / (n + 2) and p₁ - p₂ ± z·sqrt((p₁ + p₂ - (p₁ - p₂)²) / (n + 2)) (Agresti & Min 2005, Statistics in
    Medicine 24:729-740). The value stays the observed difference. Siblings lower n as they do for `rate_interval`. Models
    that agree on every prompt have an interval and no standard error. Raises ValueError for other differences and unless
    0 < level < 1.
    """
    check_level(level)
    if not np.isin(differences, (-1, 0, 1)).all():
        raise ValueError("a difference of two rates is made of -1, 0 and 1")
    value, size, error = float(differences.mean()), effective_size(differences, clusters), None
    if clusters.count > 1 and not constant(differences):
        error = standard_error(differences, clusters)
        size *= _few_clusters(clusters, level)
    up, down = (((differences == sign).mean() * size + 0.5) / (size + 2) for sign in (1, -1))
    centre = float(up - down)
    half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt((up + down - centre**2) / (size + 2))
    # Pulled towards 0, the interval of a sample that is all 1 would end below it.
    low, high = min(max(centre - half, -1.0), value), max(min(centre + half, 1.0), value)
    return Interval(value, low, high, error, method_name("agresti-min", clusters))


def _few_clusters(clusters: Clusters, level: float) -> float:
    if clusters.count == clusters.n:
        return 1.0
    return (student(level, clusters.n - 1) / student(level, clusters.count - 1)) ** 2


def _check_counts(successes: float, n: float, level: float) -> None:
    check_level(level)
    if not (n > 0 and 0 <= successes <= n):
        raise ValueError(f"{successes} successes of {n}")
