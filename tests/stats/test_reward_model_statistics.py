"""Margins of reward models: accuracy, likelihood, calibration and temperature by hand and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, special

from harness.stats import (
    brier,
    correct,
    fit_temperature,
    negative_log_likelihood,
    preference_probability,
    reliability,
    signed_calibration_error,
    signed_confidence,
    wilson,
)


def test_ties_are_half_or_wrong_or_left_out() -> None:
    margins = np.array([2.0, -1.0, 0.0, 0.5])
    assert correct(margins).tolist() == [1, 0, 0.5, 1]
    assert correct(margins, "wrong").tolist() == [1, 0, 0, 1]
    assert correct(margins, "drop").tolist() == [1, 0, 1]


def test_scores_of_a_margin_by_hand() -> None:
    margins = np.array([math.log(3), -math.log(3), 0.0])  # probabilities 3/4, 1/4, 1/2
    assert preference_probability(margins) == pytest.approx([0.75, 0.25, 0.5])
    assert negative_log_likelihood(margins) == pytest.approx([math.log(4 / 3), math.log(4), math.log(2)])
    assert brier(margins) == pytest.approx([1 / 16, 9 / 16, 1 / 4])
    assert signed_confidence(margins) == pytest.approx([0.75, -0.75, 0.0])
    # Half the temperature squares the odds: 9 to 1.
    assert preference_probability(margins, 0.5) == pytest.approx([0.9, 0.1, 0.5])


def test_huge_margins_and_the_ends_of_temperature() -> None:
    huge = np.array([2000.0, -2000.0])
    assert preference_probability(huge).tolist() == [1.0, 0.0]
    assert negative_log_likelihood(huge).tolist() == [0.0, 2000.0]
    assert preference_probability(np.array([0.1, 0.0, -0.1]), 0.0).tolist() == [1.0, 0.5, 0.0]
    assert preference_probability(np.array([9.0, -9.0]), math.inf).tolist() == [0.5, 0.5]
    assert negative_log_likelihood(np.array([-1.0]), 0.0).tolist() == [math.inf]
    with pytest.raises(ValueError, match="temperature"):
        preference_probability(huge, -1.0)


def test_calibration_error_by_hand() -> None:
    # Bins are 0.05 wide. 0.62 right and 0.64 wrong share one: |0.38 - 0.64| = 0.26; 0.91 right: 0.09; 1.0 wrong: 1.
    found = signed_calibration_error(np.array([0.62, -0.64, 0.91, -1.0]))
    assert found == pytest.approx((0.26 + 0.09 + 1.0) / 4)


def test_a_tie_is_perfectly_calibrated() -> None:
    assert signed_calibration_error(np.zeros(5)) == 0.0


def test_three_right_of_four_at_76_percent_are_one_point_off() -> None:
    assert signed_calibration_error(np.array([0.76, 0.76, 0.76, -0.76])) == pytest.approx(0.01)


def test_calibration_error_works_along_the_last_axis() -> None:
    draws = np.array([[[0.62, -0.64], [0.91, 0.91]], [[-1.0, -1.0], [0.0, 1.0]], [[0.7, 1.0], [0.0, 0.0]]])
    expected = [[0.26 / 2, 0.09], [1.0, 0.0], [0.3 / 2, 0.0]]
    np.testing.assert_allclose(signed_calibration_error(draws), expected, atol=1e-12)


def test_reliability_bins_by_confidence_in_the_favoured_answer() -> None:
    """Confidence of a margin m is 1 / (1 + exp(-|m|)): 0.525 for 0.1, in the first bin, and 0.982 for 4, in the last."""
    first, last = reliability(np.array([0.1, -0.1, 4.0, 4.0, -4.0, 0.0]), bins=5)
    assert (first.n, first.correct) == (2, 0.5)
    assert first.confidence == pytest.approx(1 / (1 + math.exp(-0.1)))
    assert (last.n, last.correct) == (3, pytest.approx(2 / 3))
    assert (last.low, last.high) == wilson(2, 3)


def test_an_enormous_margin_is_certain() -> None:
    (only,) = reliability(np.array([-5000.0]))
    assert (only.confidence, only.correct) == (1.0, 0.0)
    assert reliability(np.zeros(3)) == ()


def test_temperature_by_hand() -> None:
    # Margins of one size, right in three of four: the likelihood is greatest where sigmoid(2 / T) = 3/4, T = 2 / log 3.
    assert fit_temperature(np.array([2.0, 2.0, 2.0, -2.0])) == pytest.approx(2 / math.log(3), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_temperature_agrees_with_scipy(scale: float) -> None:
    rng = np.random.default_rng(4)
    true = rng.normal(0, 2, size=500)
    margins = scale * np.abs(true) * np.where(rng.uniform(size=500) < special.expit(np.abs(true)), 1, -1)
    fitted = optimize.minimize_scalar(
        lambda log: np.logaddexp(0, -margins / scale * math.exp(-log)).mean(), bounds=(-5, 5), method="bounded", options={"xatol": 1e-10}
    )  # fmt: skip
    assert fit_temperature(margins) == pytest.approx(scale * math.exp(fitted.x), rel=1e-5)


def test_temperature_finds_the_one_that_made_the_choices() -> None:
    rng = np.random.default_rng(5)
    margins = np.abs(rng.normal(0, 6, size=20_000))
    margins *= np.where(rng.uniform(size=20_000) < special.expit(margins / 3), 1, -1)
    assert fit_temperature(margins) == pytest.approx(3.0, rel=0.05)


def test_where_no_temperature_is_the_most_likely() -> None:
    assert fit_temperature(np.array([1.0, 3.0, 0.0])) == 0.0
    assert fit_temperature(np.array([1.0, -3.0])) == math.inf
    assert fit_temperature(np.zeros(4)) == math.inf
    # One mistake among a million times larger margins: far out, and still found.
    small = np.array([1e6] * 9 + [-1e-3])
    assert 0 < fit_temperature(small) < 1e5
    for wrong in ([], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="finite"):
            fit_temperature(np.array(wrong))
