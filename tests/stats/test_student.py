"""Student's interval: against scipy, and over clusters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.stats import Clusters, TooFewPrompts, student_t


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_agrees_with_scipy(level: float) -> None:
    values = np.random.default_rng(1).normal(size=7)
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    interval = student_t(values, Clusters.of(range(7)), level)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.method == "student-t"


def test_equal_clusters_count_as_their_means() -> None:
    values = np.random.default_rng(2).normal(size=(5, 3))
    interval = student_t(values.ravel(), Clusters.of(np.repeat(range(5), 3).tolist()))
    expected = stats.ttest_1samp(values.mean(axis=1), 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.method == "student-t-clustered"


def test_limits_end_where_the_mean_has_to() -> None:
    values = np.array([0.0, -0.5])
    free, bounded = (student_t(values, Clusters.of("ab"), 0.95, *bounds) for bounds in ((), ((-1.0, 1.0),)))
    # -.25 and 12.706 standard errors of .25
    assert (free.low, free.high) == pytest.approx((-0.25 - 12.706 * 0.25, -0.25 + 12.706 * 0.25), abs=1e-3)
    assert (bounded.low, bounded.high) == (-1.0, 1.0)


def test_what_does_not_vary_is_exact_and_one_cluster_is_refused() -> None:
    assert student_t(np.full(4, 0.1), Clusters.of("abcd")).method == "exact-constant"
    with pytest.raises(TooFewPrompts):
        student_t(np.array([1.0, 2.0]), Clusters.of("aa"))
    with pytest.raises(ValueError, match="level"):
        student_t(np.array([1.0, 2.0]), Clusters.of("ab"), level=0)
