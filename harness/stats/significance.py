"""Tests of "no difference" on paired observations: signs, McNemar's, sign flips."""

from __future__ import annotations

import numpy as np

from .clusters import ROUNDING, Clusters, Floats

ENUMERATED = 16
"""Up to so many clusters that differ from the null, every one of the 2^G ways to flip signs is counted."""


def sign_test(values: Floats, clusters: Clusters, null: float = 0.0) -> float:
    """Two-sided p-value of "as many lie above `null` as below" for `values` (n,) (Dixon & Mood 1946).

    Exact binomial; ties are dropped, and all ties give 1. One sign for each cluster, that of its mean, because siblings
    are not independent.
    """
    from scipy import stats

    above, below = _signs(values, clusters, null)
    return float(stats.binomtest(above, above + below).pvalue) if above + below else 1.0


def sign_test_of_mean(values: Floats, clusters: Clusters, null: float = 0.0) -> float:
    """`sign_test` beside the mean of `values`: 1 where most clusters lie on the other side of `null` than the mean does.

    Sizes and signs contradict each other then, as where two in three lose a little and one in three gains much, and a small
    p-value would seem to confirm the mean that it speaks against. Never smaller than the sign test's, so still a p-value.
    """
    above, below = _signs(values, clusters, null)
    return 1.0 if (above - below) * (float(values.mean()) - null) < 0 else sign_test(values, clusters, null)


def _signs(values: Floats, clusters: Clusters, null: float) -> tuple[int, int]:
    """How many clusters' means lie above and below `null`."""
    distances = values - null
    means = clusters.means(distances)
    # Siblings that cancel leave a rounding error, which is a tie and not a sign.
    signs = np.sign(np.where(np.abs(means) <= ROUNDING * np.abs(distances).max(), 0.0, means))
    return int((signs > 0).sum()), int((signs < 0).sum())


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar test: p-value of "each is alone in being right equally often" (McNemar 1947).

    Prompts that only the first or only the second model gets right decide: binomial(b, b + c, ½). For independent
    prompts; `sign_test` of their differences is the same number, and knows of siblings. Raises ValueError for a negative
    count.
    """
    from scipy import stats

    if only_first < 0 or only_second < 0:
        raise ValueError(f"negative counts: {only_first} and {only_second}")
    differ = only_first + only_second
    return float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0


def sign_flip(values: Floats, clusters: Clusters, null: float = 0.0, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of "the mean is `null`" for `values` (n,) symmetric about it (Fisher 1935, section 21).

    How often the sum is as far from 0 when each cluster's sum keeps or changes its sign as chance has it. Sizes count,
    unlike in the sign test. Exact where at most ENUMERATED clusters differ from the null, else (b + 1) / (resamples + 1)
    with b of the seeded draws as far out (Phipson & Smyth 2010). All ties give 1.
    """
    distances = values - null
    sums = clusters.sums(distances)
    sums = sums[np.abs(sums) > ROUNDING * np.abs(distances).max()]
    count = len(sums)
    if not count:
        return 1.0
    # Rounding must not tell apart two ways to flip that give the same sum.
    least = abs(float(sums.sum())) - ROUNDING * float(np.abs(sums).sum())
    if count <= ENUMERATED:
        # The first sign stays: flipping all of them changes nothing.
        ways = np.arange(2 ** (count - 1))[:, None] >> np.arange(count) & 1
        return float((np.abs((1 - 2 * ways) @ sums) >= least).mean())
    rng, far, left = np.random.default_rng(seed), 0, resamples
    while left:
        size = min(left, max(1, 1_000_000 // count))
        flips = rng.integers(0, 2, (size, count), np.int8)
        far += int((np.abs((1 - 2 * flips) @ sums) >= least).sum())
        left -= size
    return (far + 1) / (resamples + 1)
