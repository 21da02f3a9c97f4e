"""Training seeds crossed with prompts: what a model trained anew would score on other prompts.

Every seed's model answers the same prompts, as several readers read the same cases: the two-way layout of multi-reader
studies, with its analysis by pseudo-values (Dorfman, Berbaum & Metz 1992) and its degrees of freedom (Hillis 2007).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from .clusters import ROUNDING, Clusters, Floats, TooFewPrompts
from .intervals import Interval, check_level, student
from .rates import rate_difference_interval, rate_interval, wilson
from .resampling import left_out
from .significance import sign_test


@dataclass(frozen=True)
class CrossedInterval(Interval):
    """An interval over seeds and prompts.

    `seed_error` is the standard error that the seeds alone would give, s / √S of the seeds' values; `prompt_error` the one
    that the prompts alone would, with these very models. `p_value` is of "the value is the null", None without a null.
    """

    seed_error: float = 0.0
    prompt_error: float = 0.0
    p_value: float | None = None


def crossed_interval(
    samples: Sequence[Floats],
    roots: Sequence[Sequence[Hashable]],
    statistic: Callable[..., Any] | None = None,
    *,
    rate: Literal["rate", "difference"] | None = None,
    null: float | None = None,
    level: float = 0.95,
) -> CrossedInterval:
    """The mean over S training seeds of a statistic of prompts, with an interval for other seeds and other prompts.

    `samples` holds for each seed its columns (k, n_s), `roots` the cluster of each of the n_s observations; a root may be
    missing under a seed. `statistic` is as for `bca`; without one it is the mean of the only column.

    The statistic's pseudo-values z_sg, for a mean G/n_s · Σ of cluster g's distances from the mean, else the jackknife's
    G·θ_s - (G - 1)·θ_s without g, are analysed as a two-way layout: variance (MS_seed + max(MS_root - MS_rest, 0)) / SG and
    (MS_seed + max(MS_root - MS_rest, 0))² / (MS_seed² / (S - 1)) degrees of freedom, at most G - 1 (Hillis 2007, Statistics
    in Medicine 26:596-619). The interval is never narrower than the one over prompts alone, t_{G-1} · √(MS_root / SG): with
    two or three seeds the mean square between them is often small by chance. Of a rate it is Wilson's, from the size of a
    0/1 sample with that error. Where no seed and no root differs from another, rates and their differences have the interval
    of one seed's prompts, and no standard error.

    Raises TooFewPrompts for a single cluster or an undefined statistic, and ValueError for fewer than two seeds.
    """
    check_level(level)
    if len(samples) < 2:
        raise ValueError("one seed tells nothing of how seeds differ")
    numbers: dict[Hashable, int] = {}
    for each in roots:
        for root in each:
            numbers.setdefault(root, len(numbers))
    if len(numbers) < 2:
        raise TooFewPrompts("all observations are of one conversation root; evaluate more prompts for an interval")
    values = np.array([_value(columns, statistic) for columns in samples])
    if not np.isfinite(values).all():
        raise TooFewPrompts("the statistic is undefined for one of the seeds; evaluate more prompts")
    table = np.stack(
        [
            _pseudo_values(columns, each, numbers, value, statistic)
            for columns, each, value in zip(samples, roots, values, strict=True)
        ]
    )
    return _interval(values, table, rate, null, level)


def _interval(
    values: Floats, table: Floats, rate: Literal["rate", "difference"] | None, null: float | None, level: float
) -> CrossedInterval:
    """The interval of S `values` from their pseudo-values (S, G)."""
    seeds, count = table.shape
    value, cells = float(values.mean()), seeds * count
    by_seed, by_root = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_root + table.mean()
    ms_seed = count * float(values.var(ddof=1))
    ms_root = seeds * float(by_root.var(ddof=1))
    ms_rest = float(np.square(rest).sum()) / ((seeds - 1) * (count - 1))
    total = ms_seed + max(ms_root - ms_rest, 0.0)
    freedom = count - 1.0 if ms_seed == 0 else min(max(total**2 / (ms_seed**2 / (seeds - 1)), 1.0), count - 1.0)
    crossed = student(level, freedom), math.sqrt(total / cells), freedom
    alone = student(level, count - 1), math.sqrt(ms_root / cells), count - 1.0
    critical, error, freedom = max(crossed, alone, key=lambda each: each[0] * each[1])
    if certain := error <= ROUNDING * float(np.abs(table).max()):
        error = 0.0
    method = "crossed-t"
    low, high = value - critical * error, value + critical * error
    if certain and rate and value in (-1, 0, 1):
        # The seeds may be copies of one model.
        make = rate_interval if rate == "rate" else rate_difference_interval
        alike = make(np.full(count, value), Clusters.of(range(count)), level)
        low, high, method = alike.low, alike.high, alike.method
    elif rate == "rate" and error and 0 < value < 1:
        z = NormalDist().inv_cdf((1 + level) / 2)
        size = value * (1 - value) * (z / (critical * error)) ** 2
        low, high = wilson(value * size, size, level)
        method = "crossed-wilson"
    elif certain:
        method = "exact-constant"
    return CrossedInterval(
        value,
        low,
        high,
        None if certain and rate else error,
        method,
        seed_error=math.sqrt(ms_seed / cells),
        prompt_error=math.sqrt(ms_root / cells),
        p_value=None if null is None else _p_value(value, by_root, null, error, freedom),
    )


def _value(columns: Floats, statistic: Callable[..., Any] | None) -> float:
    return float(columns[0].mean() if statistic is None else statistic(*columns))


def _pseudo_values(
    columns: Floats,
    roots: Sequence[Hashable],
    numbers: dict[Hashable, int],
    value: float,
    statistic: Callable[..., Any] | None,
) -> Floats:
    """One number per root (G,), whose mean is the value; a root that is missing adds nothing to it."""
    clusters, count = Clusters.of(roots), len(numbers)
    places = [numbers[root] for root in dict.fromkeys(roots)]
    found = np.full(count, value)
    if statistic is None:
        found[places] += count / clusters.n * clusters.sums(columns[0] - value)
        return found
    clusters.require_several()
    without = left_out(columns, clusters, statistic, blocks=False)
    if not np.isfinite(without).all():
        raise TooFewPrompts("the statistic is undefined without one of the prompts; evaluate more of them")
    found[places] += (clusters.count - 1) * (without.mean() - without) * count / clusters.count
    return found


def _p_value(value: float, by_root: Floats, null: float, error: float, freedom: float) -> float:
    """Student's test; the exact sign test where nothing varies and Student's would be certain."""
    from scipy import stats

    if not error:
        return sign_test(by_root, Clusters.of(range(len(by_root))), null)
    return float(2 * stats.t.sf(abs(value - null) / error, freedom))
