"""The differences between many models that were compared with one baseline, each over the prompts that both have."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping

import numpy as np

from ..records import Estimate
from .bootstrap import bca
from .clusters import Clusters, Floats, TooFewPrompts
from .intervals import Interval
from .means import DIFFERENCE_OF_SHARES, FEW_CLUSTERS, student_t
from .rates import rate_difference_interval
from .significance import sign_test_of_mean

DRAWN = 300_000_000
"""How many values are drawn for all pairs together before the resamples become fewer."""

FEWEST_RESAMPLES = 1_000
"""Below so many resamples a pair's interval is Student's."""


def pairwise_differences(
    values: Mapping[str, Mapping[Hashable, float]],
    roots: Mapping[Hashable, Hashable],
    *,
    metric: str,
    judge: str,
    suite: str,
    unit: str,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[list[Estimate], list[str]]:
    """Later model less earlier for every pair of models, and a sentence for each pair without an interval.

    `values` holds each model's value by prompt, `roots` each prompt's cluster. The interval is that of `estimate` for a
    paired difference: Agresti and Min's where both models' values are 0 or 1, else BCa, or Student's for few clusters; but
    where so many pairs would take too long (DRAWN), Student's too, which differs little from BCa for means of hundreds of
    bounded values. The p-value is the exact sign test's.
    """
    found, skipped = [], []
    pairs = list(itertools.combinations(values, 2))
    width = sum(min(len(values[one]), len(values[other])) for one, other in pairs)
    resamples = min(resamples, DRAWN // max(1, width))
    for one, other in pairs:
        common = [prompt for prompt in values[other] if prompt in values[one]]
        if not common:
            skipped.append(f"{other} and {one} share no prompt of {suite} that both have a preference for")
            continue
        mine, its = (np.array([values[name][prompt] for prompt in common]) for name in (other, one))
        clusters = Clusters.of([roots[prompt] for prompt in common])
        try:
            interval = _interval(mine, its, clusters, level, resamples, seed)
        except TooFewPrompts as error:
            skipped.append(f"{metric} of {other} and {one} on {suite}: {error}")
            continue
        found.append(
            Estimate(
                model=other,
                metric=metric,
                judge=judge,
                suite=suite,
                baseline=one,
                value=interval.value,
                standard_error=interval.standard_error,
                low=interval.low,
                high=interval.high,
                level=level,
                n=clusters.n,
                clusters=clusters.count,
                method=interval.method,
                unit=unit,
                seed=seed,
                p_value=sign_test_of_mean(mine - its, clusters),
                resamples=interval.resamples,
            )
        )
    return found, skipped


def _interval(mine: Floats, its: Floats, clusters: Clusters, level: float, resamples: int, seed: int) -> Interval:
    if np.isin(np.concatenate([mine, its]), (0, 1)).all():
        return rate_difference_interval(mine - its, clusters, level)
    if clusters.count < FEW_CLUSTERS or resamples < FEWEST_RESAMPLES:
        return student_t(mine - its, clusters, level, DIFFERENCE_OF_SHARES)
    return bca((mine - its)[None], clusters, level=level, resamples=resamples, seed=seed)
