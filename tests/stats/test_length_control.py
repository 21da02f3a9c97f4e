"""The length-controlled win rate: by hand, against scipy's optimiser, and on data whose answer is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import optimize, special

from harness.stats import (
    Anchor,
    anchored,
    estimate_columns,
    length_control_gap,
    length_controlled_win_rate,
    lengths_overlap,
)
from harness.stats.length_control import RIDGE


def sample(n: int, seed: int, intercept: float = 0.4, slope: float = 1.5, hard: float = 0.8, mean: float = 0.5) -> Any:
    """Preferences, length differences and difficulties that follow the model."""
    rng = np.random.default_rng(seed)
    differences, difficulties = 300 * rng.normal(mean, 1, n), rng.normal(0, 1.2, n)
    lengths = np.tanh(differences / differences.std(ddof=1))
    probability = special.expit(intercept + slope * lengths + hard * difficulties)
    return (rng.random(n) < probability).astype(float), differences, difficulties


def fitted(preferences: Any, differences: Any, difficulties: Any = None, anchor: Anchor | None = None) -> float:
    """The same number by scipy's general optimiser, from the formula in the paper."""
    features = [np.ones(len(preferences)), np.tanh(differences / differences.std(ddof=1))]
    features += [] if difficulties is None else [difficulties]
    design, targets, weights = np.array(features), preferences, np.ones(len(preferences))
    if anchor is not None:
        rows = [np.zeros(len(anchor.preferences)), np.tanh(anchor.differences), anchor.difficulties][: len(features)]
        design = np.hstack([design, rows])
        targets = np.concatenate([targets, anchor.preferences])
        weights = np.concatenate([weights, np.full(len(anchor.preferences), anchor.weight)])

    def loss(beta: Any) -> float:
        logits = beta @ design
        likelihood = targets * special.log_expit(logits) + (1 - targets) * special.log_expit(-logits)
        return float(-(weights * likelihood).sum() + RIDGE / 2 * beta @ beta)

    beta = optimize.minimize(loss, np.zeros(len(features)), tol=1e-12).x
    return float(special.expit(beta[0] + (beta[2] * difficulties if difficulties is not None else 0)).mean())


def test_by_hand() -> None:
    # Differences of -1 and 1 alone, so tanh(±1 / s) are two values ±t and the fit has as many coefficients as there are
    # groups: it meets both win rates, 8 of 10 where longer and 4 of 10 where shorter. At 0 the logit is their mean's.
    differences = np.array([1.0] * 10 + [-1.0] * 10)
    preferences = np.array([1.0] * 8 + [0.0] * 2 + [1.0] * 4 + [0.0] * 6)
    expected = special.expit((math.log(8 / 2) + math.log(4 / 6)) / 2)
    assert length_controlled_win_rate(preferences, differences) == pytest.approx(expected, abs=1e-4)
    assert length_control_gap(preferences, differences) == pytest.approx(expected - 0.6, abs=1e-4)


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("difficulty", [False, True])
@pytest.mark.parametrize("with_anchor", [False, True])
def test_it_agrees_with_a_general_optimiser(graded: bool, difficulty: bool, with_anchor: bool) -> None:
    preferences, differences, difficulties = sample(200, 0)
    if graded:
        preferences = 0.1 + 0.8 * preferences
    anchor = Anchor(*sample(100, 1)) if with_anchor else None
    columns = (preferences, differences, difficulties) if difficulty else (preferences, differences)
    found = length_controlled_win_rate(*columns, anchor=anchor)
    assert found == pytest.approx(fitted(*columns, anchor=anchor), abs=1e-6)


def test_resamples_are_fitted_as_one_by_one() -> None:
    preferences, differences, difficulties = sample(80, 2)
    draws = np.random.default_rng(0).integers(0, 80, (2, 3, 80))
    together = length_controlled_win_rate(preferences[draws], differences[draws], difficulties[draws])
    assert together.shape == (2, 3)
    draw = draws[1, 2]
    alone = length_controlled_win_rate(preferences[draw], differences[draw], difficulties[draw])
    assert together[1, 2] == pytest.approx(float(alone), abs=1e-9)


def test_length_that_flatters_is_taken_away() -> None:
    # No better at all, but longer, and the judge likes length: 20,000 prompts leave less than a point of noise.
    preferences, differences, _ = sample(20_000, 3, intercept=0.0, hard=0.0, mean=1.0)
    assert preferences.mean() > 0.6
    assert length_controlled_win_rate(preferences, differences) == pytest.approx(0.5, abs=0.02)


def test_swapping_the_models_turns_it_round() -> None:
    preferences, differences, _ = sample(150, 4)
    turned = length_controlled_win_rate(1 - preferences, -differences)
    assert turned == pytest.approx(1 - float(length_controlled_win_rate(preferences, differences)), abs=1e-9)


def test_equal_lengths_leave_the_win_rate_as_it_is() -> None:
    assert length_controlled_win_rate(np.array([1.0, 0, 1, 1]), np.zeros(4)) == pytest.approx(0.75, abs=1e-3)


def test_one_difference_for_all_prompts_says_nothing() -> None:
    assert np.isnan(length_controlled_win_rate(np.array([1.0, 0, 1, 1]), np.full(4, 120.0)))


def test_separation_stays_finite() -> None:
    # The longer one always wins: no finite coefficient without the penalty.
    differences = np.linspace(-50, 50, 40)
    found = length_controlled_win_rate((differences > 0).astype(float), differences)
    assert found == pytest.approx(0.5, abs=1e-6)
    assert length_controlled_win_rate(np.ones(40), differences) > 0.99


def test_lengths_overlap_where_equal_ones_lie_within_the_data() -> None:
    assert lengths_overlap(np.array([-1.0] * 1 + [5.0] * 19))  # exactly 5 %
    assert not lengths_overlap(np.array([-1.0] * 1 + [5.0] * 20))
    assert not lengths_overlap(np.full(20, -3.0))
    assert lengths_overlap(np.zeros(20))


def test_an_anchor_holds_the_coefficient_where_the_sample_says_nothing_of_it() -> None:
    # All answers are about 900 characters longer, and win 3 of 4: is it length, or quality? The anchor's model has a slope
    # of 2 and nothing else, so it explains tanh(900 / 10) · 2 of the logit log 3 and leaves less than half to quality.
    rng = np.random.default_rng(0)
    differences = 900 + 10 * rng.normal(size=200)
    preferences = np.array([1.0, 1, 1, 0] * 50)
    at = rng.normal(size=4000)
    anchor = Anchor(special.expit(2 * np.tanh(at)), at, np.zeros(4000))
    assert length_controlled_win_rate(preferences, differences, anchor=anchor) == pytest.approx(
        special.expit(math.log(3) - 2), abs=0.03
    )
    statistic = anchored(length_control_gap, anchor)
    assert statistic(preferences, differences) == pytest.approx(
        float(length_controlled_win_rate(preferences, differences, anchor=anchor)) - 0.75
    )


def test_the_standard_error_holds_the_uncertainty_of_the_fit() -> None:
    # Over samples from the model, the spread of the number itself is what its standard error should be. The published
    # error, that of the mean of predictions with the coefficients taken as known, is far smaller.
    values, errors, published = [], [], []
    for seed in range(120):
        preferences, differences, difficulties = sample(150, seed)
        made = estimate_columns(
            [preferences, differences, difficulties], list(range(150)), length_controlled_win_rate,
            model="m", metric="lc", suite="s", unit="share of prompts", resamples=150, corrected=False,
        )  # fmt: skip
        values.append(made.value)
        errors.append(made.standard_error)
        published.append(special.expit(0.4 + 0.8 * difficulties).std(ddof=1) / math.sqrt(150))
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.2)
    assert np.mean(published) < 0.6 * np.std(values, ddof=1)
