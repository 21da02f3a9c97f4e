"""Simulated coverage: how often a 95 % interval holds the truth. Seeds are fixed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.stats import Clusters, bca, rate_interval, wilson


def test_wilson_covers_at_thirty_prompts() -> None:
    """Exact coverage: the sum of the binomial probabilities of the counts whose interval holds the rate."""
    counts, rates = np.arange(31), np.linspace(0.01, 0.99, 981)[:, None]
    low, high = np.array([wilson(int(k), 30) for k in counts]).T
    covered = (stats.binom.pmf(counts, 30, rates) * ((low <= rates) & (rates <= high))).sum(axis=-1)
    assert covered.mean() == pytest.approx(0.95, abs=0.01)
    assert covered.min() > 0.89  # it dips next to 0 and 1 (Brown, Cai & DasGupta 2001)


def test_clustered_rate_covers_and_the_naive_one_does_not() -> None:
    rng, groups, size, repeats = np.random.default_rng(11), 20, 5, 600
    clusters = Clusters.of(np.repeat(range(groups), size).tolist())
    alone = Clusters.of(range(groups * size))
    held = naive = 0
    for _ in range(repeats):
        rates = rng.beta(0.7, 1.633, size=groups)  # mean 0.3, correlation of siblings 1 / (0.7 + 1.633 + 1) = 0.3
        values = (rng.uniform(size=(groups, size)) < rates[:, None]).astype(float).ravel()
        for interval, kind in ((rate_interval(values, clusters), "clustered"), (rate_interval(values, alone), "naive")):
            inside = interval.low <= 0.3 <= interval.high
            held += inside and kind == "clustered"
            naive += inside and kind == "naive"
    assert held / repeats > 0.92
    assert naive / repeats < 0.87


def test_clustered_bootstrap_covers_and_the_naive_one_does_not() -> None:
    rng, groups, size, repeats = np.random.default_rng(12), 25, 4, 400
    clusters = Clusters.of(np.repeat(range(groups), size).tolist())
    alone = Clusters.of(range(groups * size))
    held = naive = 0
    for seed in range(repeats):
        # Correlation of siblings 0.5: half of the variance belongs to the cluster.
        values = (rng.normal(size=(groups, 1)) + rng.normal(size=(groups, size))).ravel()
        right = bca(values[None], clusters, resamples=600, seed=seed)
        wrong = bca(values[None], alone, resamples=600, seed=seed)
        held += right.low <= 0 <= right.high
        naive += wrong.low <= 0 <= wrong.high
    assert held / repeats > 0.91
    assert naive / repeats < 0.87


def test_expansion_mends_small_samples() -> None:
    """Ten normal prompts: the plain BCa interval covers about 88 %, ours well over 90 %."""
    rng, clusters, repeats = np.random.default_rng(13), Clusters.of(range(10)), 600
    held = 0
    for seed in range(repeats):
        interval = bca(rng.normal(size=(1, 10)), clusters, resamples=600, seed=seed)
        held += interval.low <= 0 <= interval.high
    assert held / repeats > 0.905
