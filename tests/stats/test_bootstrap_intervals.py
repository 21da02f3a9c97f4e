"""The BCa bootstrap over clusters: against scipy, against brute force, and where it does not exist."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.stats import Clusters, TooFewPrompts, bca, pearson, standard_error
from harness.stats.resampling import _refit

# Hesterberg's expansion for 40 values: t_39 = 2.022691 (any table), 2.022691 · sqrt(40 / 39) = 2.048459, and the normal
# distribution has 1 - 2 · 0.0202575 = 0.959485 within that.
EXPANDED_40 = 0.959485


def test_agrees_with_scipy_on_independent_values() -> None:
    values = np.random.default_rng(3).exponential(size=40)
    ours = bca(values[None], Clusters.of(range(40)), resamples=20_000, seed=1)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, confidence_level=EXPANDED_40, method="BCa", rng=np.random.default_rng(2)
    )
    # Two independent bootstraps: the limits agree to their Monte Carlo error, a few hundredths of a standard error.
    error = values.std(ddof=1) / math.sqrt(40)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.1 * error)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.1 * error)
    assert ours.standard_error == pytest.approx(error)
    assert ours.method == "bca"


def test_skewed_values_have_a_skewed_interval() -> None:
    values = np.random.default_rng(3).exponential(size=40)
    interval = bca(values[None], Clusters.of(range(40)))
    assert interval.high - interval.value > 1.1 * (interval.value - interval.low)


def test_refitting_the_mean_is_the_mean() -> None:
    rng = np.random.default_rng(5)
    values, clusters = rng.normal(size=60), Clusters.of(rng.integers(0, 25, size=60).tolist())
    fast = bca(values[None], clusters, resamples=2000, seed=4)
    slow = bca(values[None], clusters, lambda x: x.mean(axis=-1), resamples=2000, seed=4)
    assert (slow.low, slow.high) == pytest.approx((fast.low, fast.high), abs=1e-12)
    assert slow.method == fast.method == "bca-clustered"
    assert slow.standard_error == pytest.approx(standard_error(values, clusters), rel=0.1)


def test_resamples_of_all_lengths_keep_their_order() -> None:
    columns, clusters = np.arange(6.0)[None], Clusters.of("abbccc")
    draws = np.array([[2, 2, 2], [0, 0, 0], [1, 0, 2], [0, 1, 1]])
    # Observations 3 4 5 three times; 0 three times; 1 2 0 3 4 5; 0 1 2 1 2.
    sums = _refit(columns, clusters, lambda x: x.sum(axis=-1))(draws)
    assert sums.tolist() == [36, 0, 15, 6]


def test_columns_stay_paired() -> None:
    x = np.random.default_rng(6).normal(size=30)
    interval = bca(np.stack([x, 2 * x]), Clusters.of(np.repeat(range(15), 2).tolist()), pearson, resamples=500)
    assert (interval.low, interval.high) == pytest.approx((1, 1))


def test_duplicates_do_not_narrow_an_interval() -> None:
    values = np.random.default_rng(7).normal(size=30)
    once = bca(values[None], Clusters.of(range(30)), resamples=4000)
    many = bca(np.repeat(values, 3)[None], Clusters.of(np.repeat(range(30), 3).tolist()), resamples=4000)
    assert (many.low, many.high) == pytest.approx((once.low, once.high), abs=1e-12)
    assert many.standard_error == pytest.approx(once.standard_error)


def test_limits_are_the_expanded_quantiles() -> None:
    """Symmetric values have no bias and no acceleration, so BCa takes the two expanded quantiles of the replicates."""
    values = np.concatenate([np.arange(1.0, 21), -np.arange(1.0, 21)])
    interval = bca(values[None], Clusters.of(range(40)), resamples=100_000)
    error = np.sqrt(np.square(values).sum() / 40 / 40)  # of a bootstrap mean: no n - 1
    assert interval.high / error == pytest.approx(2.048459, abs=0.03)
    assert interval.low / error == pytest.approx(-2.048459, abs=0.03)


def test_seed_decides_the_interval() -> None:
    values, clusters = np.random.default_rng(8).normal(size=(1, 30)), Clusters.of(range(30))
    assert bca(values, clusters, resamples=200, seed=1) == bca(values, clusters, resamples=200, seed=1)
    assert bca(values, clusters, resamples=200, seed=1) != bca(values, clusters, resamples=200, seed=2)


def test_constant_sample_is_exact() -> None:
    interval = bca(np.full((1, 30), 0.1), Clusters.of(range(30)))
    assert (interval.value, interval.low, interval.high, interval.standard_error) == (0.1, 0.1, 0.1, 0.0)
    assert interval.method == "exact-constant"


def test_clusters_with_one_mean_are_exact() -> None:
    interval = bca(np.array([[0.0, 1, 1, 0, 0.5, 0.5]]), Clusters.of("aabbcc"))
    assert (interval.low, interval.high, interval.method) == (0.5, 0.5, "exact-constant")


def test_a_statistic_that_never_moves_is_exact() -> None:
    values = np.random.default_rng(9).normal(size=(1, 20))
    interval = bca(values, Clusters.of(range(20)), lambda x: np.full(x.shape[:-1], 7.0), resamples=100)
    assert (interval.value, interval.low, interval.high, interval.method) == (7.0, 7.0, 7.0, "exact-constant")


def test_replicates_on_one_side_fall_back_to_percentiles() -> None:
    """No resample has more distinct values than the sample: all replicates lie below the value and BCa is undefined."""

    def distinct(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return (np.diff(np.sort(x, axis=-1)) > 0).sum(axis=-1) + 1.0

    interval = bca(np.arange(20.0)[None], Clusters.of(range(20)), distinct, resamples=500)
    assert interval.method == "percentile"
    assert interval.value == interval.high == 20
    assert 5 < interval.low < 13


def test_undefined_resamples_fall_back_to_percentiles() -> None:
    table = np.array([[0.0, 0, 0, 1], [1.0, 2, 3, 9]])  # a resample without the last column has no correlation
    interval = bca(table, Clusters.of(range(4)), pearson, resamples=500)
    assert interval.method == "percentile"
    assert -1 <= interval.low <= interval.value <= interval.high <= 1 + 1e-12


def test_undefined_statistic_is_refused() -> None:
    with pytest.raises(TooFewPrompts, match="undefined for these 5"):
        bca(np.ones((2, 5)), Clusters.of(range(5)), pearson)


@pytest.mark.parametrize("roots", ["a", "aaa"])
def test_one_cluster_is_refused(roots: str) -> None:
    with pytest.raises(TooFewPrompts, match="one conversation root"):
        bca(np.arange(float(len(roots)))[None], Clusters.of(roots))


def test_two_clusters_span_their_means() -> None:
    interval = bca(np.array([[1.0, 3.0]]), Clusters.of("ab"))
    assert (interval.low, interval.high) == pytest.approx((1, 3))


def test_level_is_checked() -> None:
    with pytest.raises(ValueError, match="level"):
        bca(np.arange(4.0)[None], Clusters.of("abcd"), level=1.0)


def test_ten_thousand_resamples_of_300_prompts_are_quick() -> None:
    values, clusters = np.random.default_rng(10).normal(size=(1, 300)), Clusters.of(range(300))
    bca(values, clusters, resamples=10)
    start = time.process_time()
    bca(values, clusters)
    assert time.process_time() - start < 0.6  # 0.04 s where it was measured
