"""Calibration error and correlations: by hand, against scipy, and over leading axes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.stats import expected_calibration_error, pearson, pearson_of_pairs, spearman


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([0.12, 0.18, 0.9, 0.95, 1.0])
    outcomes = np.array([0.0, 1, 1, 1, 0])
    # Bin [.1, .2): |1 - 0.30| = 0.70. Bin [.9, 1]: |2 - 2.85| = 0.85. Sum over n = 5.
    assert expected_calibration_error(probabilities, outcomes) == pytest.approx((0.70 + 0.85) / 5)
    # One bin: |3 - 3.15| / 5.
    assert expected_calibration_error(probabilities, outcomes, bins=1) == pytest.approx(0.03)


def test_calibration_error_keeps_leading_axes_apart() -> None:
    rng = np.random.default_rng(0)
    probabilities, outcomes = rng.uniform(size=(2, 3, 50)), rng.integers(0, 2, size=(2, 3, 50)).astype(float)
    together = expected_calibration_error(probabilities, outcomes)
    assert together.shape == (2, 3)
    assert together[1, 2] == pytest.approx(float(expected_calibration_error(probabilities[1, 2], outcomes[1, 2])))


def test_a_score_is_no_probability() -> None:
    with pytest.raises(ValueError, match="outside"):
        expected_calibration_error(np.array([0.5, 1.2]), np.array([1.0, 1.0]))


def test_spearman_by_hand() -> None:
    # Ranks 1 2 3 4 and 2 1 4 3: 1 - 6 · (1 + 1 + 1 + 1) / (4 · 15) = 0.6.
    assert spearman(np.array([1.0, 2, 30, 400]), np.array([2.0, 1, 9, 8])) == pytest.approx(0.6)


def test_correlations_agree_with_scipy_over_leading_axes() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 6, size=(2, 4, 30)).astype(float)  # with ties
    for row in range(4):
        assert spearman(x, y)[row] == pytest.approx(stats.spearmanr(x[row], y[row]).statistic)
        assert pearson(x, y)[row] == pytest.approx(stats.pearsonr(x[row], y[row]).statistic)


def test_a_constant_has_no_correlation() -> None:
    assert np.isnan(spearman(np.ones(5), np.arange(5.0)))


def test_the_correlation_of_pairs_is_pearsons_over_both_orders() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(1, 1, 50), rng.normal(-1, 2, 50)
    assert pearson_of_pairs(x, y) == pytest.approx(pearson(np.append(x, -x), np.append(y, -y)))
    assert pearson_of_pairs(np.array([1.0, 2.0]), np.array([2.0, 4.0])) == pytest.approx(1.0)
    assert pearson_of_pairs(np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[2.0, -1.0], [-1.0, 5.0]])) == pytest.approx(
        [0.0, -1 / 26**0.5]
    )
    assert np.isnan(pearson_of_pairs(np.array([1.0, 2.0]), np.zeros(2)))
