"""Minimum detectable effects: by hand, and the power that simulated samples really have."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats import (
    Clusters,
    detectable_mean,
    detectable_rate_difference,
    detectable_win_rate,
    prompts_needed,
    rate_difference_interval,
    rate_interval,
)


def test_means_by_hand() -> None:
    # (1.959964 + 0.841621) · 2 / √100.
    assert detectable_mean(100, 2.0) == pytest.approx(0.560317, abs=1e-6)
    assert detectable_mean(100, 2.0, level=0.99, power=0.9) == pytest.approx((2.575829 + 1.281552) * 0.2, abs=1e-6)


def test_prompts_needed_is_the_inverse() -> None:
    # (2.801585 · 0.5 / 0.05)² = 784.9.
    assert prompts_needed(0.05, 0.5) == 785
    assert prompts_needed(-0.05, 0.5) == 785
    assert prompts_needed(detectable_mean(64, 3.0), 3.0) == 64


def test_win_rates_solve_connors_equation() -> None:
    far = detectable_win_rate(300, ties=0.2)
    assert far is not None
    null, alternative = 0.2**0.5, (0.2 - far**2) ** 0.5
    assert far * 300**0.5 == pytest.approx(1.959964 * null + 0.841621 * alternative, abs=1e-5)
    # Close to (1.96 + 0.84) · 0.5 / √300 = 0.081 where ties are none.
    assert detectable_win_rate(300) == pytest.approx(0.081, abs=0.001)


def test_a_handful_of_prompts_finds_nothing() -> None:
    # Not even a win on every prompt: 0.5 · √3 is less than 1.96 · 0.5.
    assert detectable_win_rate(3) is None
    assert detectable_win_rate(4) == pytest.approx(0.5, abs=0.02)
    assert detectable_rate_difference(3, 0.3) is None


def test_the_power_of_a_win_rate_is_what_it_says() -> None:
    rng, n, ties = np.random.default_rng(1), 300, 0.3
    far = detectable_win_rate(n, ties)
    assert far is not None
    wins = (1 - ties) / 2 + far
    clusters = Clusters.of(range(n))
    found = [
        rate_interval(rng.choice([1.0, 0.5, 0.0], p=[wins, ties, 1 - ties - wins], size=n), clusters).low > 0.5
        for _ in range(1500)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.035)


def test_the_power_of_a_difference_of_rates_is_what_it_says() -> None:
    rng, n, discordant = np.random.default_rng(2), 400, 0.25
    far = detectable_rate_difference(n, discordant)
    assert far is not None
    up, down = (discordant + far) / 2, (discordant - far) / 2
    clusters = Clusters.of(range(n))
    found = [
        rate_difference_interval(rng.choice([1.0, 0.0, -1.0], p=[up, 1 - up - down, down], size=n), clusters).low > 0
        for _ in range(1500)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.035)


@pytest.mark.parametrize("power", [0.3, 0.5, 0.9])
def test_any_power_solves_the_equation(power: float) -> None:
    quantile = {0.3: -0.524401, 0.5: 0.0, 0.9: 1.281552}[power]
    far = detectable_rate_difference(200, 0.4, power=power)
    assert far is not None
    assert far * 200**0.5 == pytest.approx(1.959964 * 0.4**0.5 + quantile * (0.4 - far**2) ** 0.5, abs=1e-5)


def test_impossible_questions_are_refused() -> None:
    for ask in (
        lambda: detectable_mean(0, 1.0),
        lambda: detectable_mean(10, 0.0),
        lambda: detectable_mean(10, 1.0, power=1.0),
        lambda: detectable_mean(10, 1.0, level=0.0),
        lambda: detectable_win_rate(10, ties=1.0),
        lambda: detectable_rate_difference(10, 0.0),
        lambda: prompts_needed(0.0, 1.0),
    ):
        with pytest.raises(ValueError, match=r".+"):
            ask()
