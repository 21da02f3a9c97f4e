"""Wilson's interval, plain and clustered, against published numbers, scipy and arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.stats import Clusters, effective_size, rate_interval, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3 (score, no continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("successes", [0, 1, 4, 7])
def test_agrees_with_scipy(successes: int, level: float) -> None:
    expected = stats.binomtest(successes, 7).proportion_ci(confidence_level=level, method="wilson")
    assert wilson(successes, 7, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_limits_of_extreme_rates_are_exact() -> None:
    assert wilson(0, 30)[0] == 0.0
    assert wilson(30, 30)[1] == 1.0


def test_fractional_counts_lie_between_whole_ones() -> None:
    widths = [np.subtract(*wilson(n / 2, n)[::-1]) for n in (10, 10.5, 11)]
    assert widths[0] > widths[1] > widths[2]


@pytest.mark.parametrize(("successes", "n", "level"), [(3, 2, 0.95), (-1, 2, 0.95), (0, 0, 0.95), (1, 2, 1.0), (1, 2, 0.0)])
def test_impossible_arguments_are_refused(successes: int, n: int, level: float) -> None:
    with pytest.raises(ValueError, match=r"successes of|level"):
        wilson(successes, n, level)


def test_independent_prompts_are_worth_their_number() -> None:
    values = np.array([1.0, 0, 0, 1, 1])
    assert effective_size(values, Clusters.of("abcde")) == 5
    interval = rate_interval(values, Clusters.of("abcde"))
    assert (interval.low, interval.high) == wilson(3, 5)
    assert interval.method == "wilson"
    # s / sqrt(n) with s² = p(1 - p) n / (n - 1) = 0.24 · 5 / 4 = 0.3.
    assert interval.standard_error == pytest.approx((0.3 / 5) ** 0.5)


def test_effective_size_by_hand() -> None:
    values, clusters = np.array([1.0, 1, 0, 0]), Clusters.of("aabb")
    # Residual sums 1 and -1: clustered variance 2/1 · (1 + 1) / 4² = 1/4. Independent: 0.25 / 3 = 1/12. So deff is 3.
    assert effective_size(values, clusters) == pytest.approx(4 / 3)
    # Opposite siblings balance each other; deff stays at 1 all the same.
    assert effective_size(np.array([1.0, 0, 1, 0]), clusters) == 4


def test_clustered_interval_by_hand() -> None:
    values, clusters = np.array([1.0, 1, 0, 0]), Clusters.of("aabb")
    # t_3 = 3.182446 and t_1 = 12.706205 (any table): the size is 4/3 · (3.182446 / 12.706205)² = 0.083643.
    interval = rate_interval(values, clusters)
    assert (interval.low, interval.high) == pytest.approx(wilson(0.083643 / 2, 0.083643), abs=1e-5)
    assert interval.method == "wilson-clustered"
    assert interval.standard_error == pytest.approx(0.5)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_rate_keeps_its_uncertainty(value: float) -> None:
    interval = rate_interval(np.full(30, value), Clusters.of(range(30)))
    assert interval.high - interval.low == pytest.approx(3.841459 / 33.841459, abs=1e-6)  # z² / (n + z²)
    assert interval.standard_error is None


def test_siblings_of_a_constant_rate_count_as_copies() -> None:
    # Sizes 1, 1 and 4: 6² / (1 + 1 + 16) = 2.
    assert effective_size(np.zeros(6), Clusters.of("abcccc")) == 2
    assert rate_interval(np.zeros(6), Clusters.of("abcccc")).high == pytest.approx(wilson(0, 2)[1])


def test_one_prompt_has_wilsons_interval() -> None:
    interval = rate_interval(np.ones(1), Clusters.of("a"))
    assert interval.low == pytest.approx(1 / 4.841459, abs=1e-6)  # n / (n + z²)
    assert interval.high == 1.0
    mixed = rate_interval(np.array([0.0, 1.0]), Clusters.of("aa"))
    assert (mixed.low, mixed.high) == pytest.approx(wilson(0.5, 1))


def test_duplicates_do_not_narrow_a_rate() -> None:
    values = np.array([1.0] * 12 + [0.0] * 18)
    once = rate_interval(values, Clusters.of(range(30)))
    many = rate_interval(np.repeat(values, 4), Clusters.of(np.repeat(range(30), 4).tolist()))
    assert many.low <= once.low
    assert many.high >= once.high
    assert many.standard_error == pytest.approx(once.standard_error)
