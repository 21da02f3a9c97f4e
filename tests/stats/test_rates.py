"""Clopper and Pearson's interval, rates with ties, and paired differences of rates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.stats import (
    Clusters,
    TooFewPrompts,
    clopper_pearson,
    copies_size,
    effective_size,
    rate_difference_interval,
    rate_interval,
    standard_error,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 5 (Clopper-Pearson).
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0000, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_published_exact_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert clopper_pearson(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("successes", [0, 1, 4, 7])
def test_exact_interval_agrees_with_scipy(successes: int, level: float) -> None:
    expected = stats.binomtest(successes, 7).proportion_ci(confidence_level=level, method="exact")
    assert clopper_pearson(successes, 7, level) == pytest.approx((expected.low, expected.high), abs=1e-10)


def test_nothing_of_n_is_bounded_by_the_rule_of_three() -> None:
    # (1 - p)^30 = 0.025 at the limit.
    assert clopper_pearson(0, 30)[1] == pytest.approx(1 - 0.025 ** (1 / 30))


@pytest.mark.parametrize(("successes", "n"), [(3, 2), (-1, 2), (0, 0)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes of"):
        clopper_pearson(successes, n)


def test_ties_are_worth_more_prompts_by_hand() -> None:
    # 8 wins, 8 ties, 4 losses: p = 12/20 = 0.6, variance (8 · 0.16 + 8 · 0.01 + 4 · 0.36) / 20 = 0.14.
    values = np.array([1.0] * 8 + [0.5] * 8 + [0.0] * 4)
    # 20 · 0.24 / 0.14, and (1.959964 / t_19 = 2.093024)² for the variance being estimated.
    size = 20 * 0.24 / 0.14 * (1.959964 / 2.093024) ** 2
    interval = rate_interval(values, Clusters.of(range(20)))
    assert (interval.low, interval.high) == pytest.approx(wilson(0.6 * size, size), abs=1e-6)
    assert interval.standard_error == pytest.approx((0.14 / 19) ** 0.5)
    assert interval.resamples is None


def test_copies_of_ties_narrow_nothing() -> None:
    values = np.array([1.0] * 8 + [0.5] * 8 + [0.0] * 4)
    once = rate_interval(values, Clusters.of(range(20)))
    many = rate_interval(np.repeat(values, 5), Clusters.of(np.repeat(range(20), 5).tolist()))
    assert (many.low, many.high) == pytest.approx((once.low, once.high), abs=0.005)
    assert many.standard_error == pytest.approx(once.standard_error)
    assert many.method == "wilson-clustered"


def test_only_ties_are_exact_and_one_root_of_ties_tells_nothing() -> None:
    interval = rate_interval(np.full(30, 0.5), Clusters.of(range(30)))
    assert (interval.low, interval.high, interval.method) == (0.5, 0.5, "exact-constant")
    with pytest.raises(TooFewPrompts):
        rate_interval(np.array([0.5, 1.0]), Clusters.of("aa"))


def test_effective_size_of_any_values_is_the_ratio_of_variances() -> None:
    rng = np.random.default_rng(1)
    values = (rng.normal(size=(10, 1)) + rng.normal(size=(10, 4))).ravel()
    clusters = Clusters.of(np.repeat(range(10), 4).tolist())
    expected = values.var(ddof=1) / standard_error(values, clusters) ** 2
    assert effective_size(values, clusters) == pytest.approx(expected)


def test_copies_by_hand() -> None:
    assert copies_size(Clusters.of("aaabbc")) == pytest.approx(36 / (9 + 4 + 1))


def test_difference_of_rates_by_hand() -> None:
    # 20 pairs: 6 up, 2 down, 12 alike. (6.5 - 2.5) / 22 = 0.181818; the variance of a pair is 9/22 - 0.181818².
    differences = np.array([1.0] * 6 + [-1.0] * 2 + [0.0] * 12)
    half = 1.959964 * ((9 / 22 - (4 / 22) ** 2) / 22) ** 0.5
    interval = rate_difference_interval(differences, Clusters.of(range(20)))
    assert (interval.low, interval.high) == pytest.approx((4 / 22 - half, 4 / 22 + half), abs=1e-6)
    assert interval.value == pytest.approx(4 / 20)
    assert interval.standard_error == pytest.approx(differences.std(ddof=1) / 20**0.5)
    assert interval.method == "agresti-min"


def test_models_that_agree_everywhere_may_still_differ() -> None:
    interval = rate_difference_interval(np.zeros(30), Clusters.of(range(30)))
    assert interval.high == pytest.approx(1.959964 * (1 / 32 / 32) ** 0.5, abs=1e-6)
    assert interval.low == -interval.high
    assert interval.standard_error is None


def test_siblings_widen_a_difference_of_rates() -> None:
    differences = np.array([1.0, 1, -1, 0, 0, 0, 1, 0, 0, 0] * 3)
    alone = rate_difference_interval(differences, Clusters.of(range(30)))
    copies = rate_difference_interval(np.repeat(differences, 4), Clusters.of(np.repeat(range(30), 4).tolist()))
    assert copies.low <= alone.low
    assert copies.high >= alone.high
    assert copies.method == "agresti-min-clustered"


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_interval_holds_its_value_and_ends_at_one(sign: float) -> None:
    interval = rate_difference_interval(np.full(30, sign), Clusters.of(range(30)))
    assert -1 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.value == sign


def test_other_differences_are_refused() -> None:
    with pytest.raises(ValueError, match="-1, 0 and 1"):
        rate_difference_interval(np.array([0.5, 1.0]), Clusters.of("ab"))
