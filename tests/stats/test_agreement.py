"""Agreement of two raters against published tables, and corrected rates against the delta method and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness import stats
from harness.stats import agreement


def raters(table: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """The two columns of codes that a contingency table stands for."""
    pairs = [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    first, second = np.array(pairs, dtype=np.float64).T
    return first, second


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        # Cohen (1960), tables 1 and 2: 200 cases, p_o = .70, p_e = .41
        ([[88, 14, 18], [10, 40, 10], [2, 6, 12]], (0.70 - 0.41) / (1 - 0.41)),
        # Fleiss, Levin & Paik (2003), table 18.1: 100 cases, p_o = .89, p_e = .66
        ([[75, 1, 4], [5, 4, 1], [0, 0, 10]], (0.89 - 0.66) / (1 - 0.66)),
        # no agreement beyond chance: every cell is the product of its margins
        ([[4, 8], [2, 4]], 0.0),
        # never the same of two: p_o = 0, p_e = 1/2
        ([[0, 5], [5, 0]], -1.0),
        ([[3, 0, 0], [0, 2, 0], [0, 0, 4]], 1.0),
    ],
)
def test_kappa_of_published_tables(table: list[list[int]], kappa: float) -> None:
    assert float(agreement.cohen_kappa(*raters(table))) == pytest.approx(kappa, abs=1e-12)


def test_kappa_of_raters_who_use_one_category_throughout_is_undefined() -> None:
    assert math.isnan(float(agreement.cohen_kappa(np.ones(4), np.ones(4))))
    with pytest.raises(stats.TooFewPrompts, match="undefined"):
        stats.estimate_columns(
            [np.ones(4), np.ones(4)],
            list("abcd"),
            agreement.cohen_kappa,
            model="j",
            metric="kappa",
            suite="s",
            unit="kappa",
        )


def test_kappa_of_many_resamples_is_that_of_each() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(-1, 2, (2, 5, 40)).astype(np.float64)
    each = [float(agreement.cohen_kappa(one, other)) for one, other in zip(first, second, strict=True)]
    assert agreement.cohen_kappa(first, second) == pytest.approx(each)


def test_the_bootstrap_of_kappa_is_as_wide_as_its_large_sample_error() -> None:
    # Fleiss, Cohen & Everitt (1969), the large-sample error, by hand for table 18.1 of Fleiss, Levin & Paik (2003):
    p = np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]]) / 100
    rows, columns = p.sum(1), p.sum(0)
    observed, chance = np.trace(p), rows @ columns
    kappa = (observed - chance) / (1 - chance)
    a = sum(p[i, i] * (1 - (rows[i] + columns[i]) * (1 - kappa)) ** 2 for i in range(3))
    b = (1 - kappa) ** 2 * sum(p[i, j] * (columns[i] + rows[j]) ** 2 for i in range(3) for j in range(3) if i != j)
    c = (kappa - chance * (1 - kappa)) ** 2
    error = math.sqrt(a + b - c) / ((1 - chance) * math.sqrt(100))
    made = stats.estimate_columns(
        raters([[75, 1, 4], [5, 4, 1], [0, 0, 10]]), range(100), agreement.cohen_kappa,
        model="one", metric="kappa", judge="other", suite="s", unit="kappa", resamples=4000,
    )  # fmt: skip
    assert made.standard_error == pytest.approx(error, rel=0.06)
    assert made.low < 0.676 < made.high


def test_a_rate_corrected_for_known_errors() -> None:
    # 0.4 of all are 1, seen as 0.4 * 0.9 + 0.6 * (1 - 0.8) = 0.48
    assert float(agreement.rogan_gladen(np.array(0.48), np.array(0.9), np.array(0.8))) == pytest.approx(0.4)
    # A rater without errors is left as it is.
    assert float(agreement.rogan_gladen(np.array(0.3), np.array(1.0), np.array(1.0))) == pytest.approx(0.3)
    # Fewer than the false alarms alone: not below 0; more than a rater can see: not above 1.
    seen = np.array([0.1, 0.95])
    assert agreement.rogan_gladen(seen, np.array(0.9), np.array(0.8)) == pytest.approx([0.0, 1.0])


def test_a_rater_who_tells_nothing_leaves_an_end_of_the_range() -> None:
    ends = agreement.rogan_gladen(np.array([0.7, 0.2]), np.array(0.5), np.array(0.5))
    assert ends.tolist() == [1.0, 0.0]


def test_the_judges_errors_against_people() -> None:
    #              people: candidate ×4, baseline ×2, a tie, not asked
    label = np.array([1, 1, 1, 1, 0, 0, 0.5, np.nan])
    preference = np.array([1, 1, 1, 0.5, 0, 1, 1, 1])
    assert float(agreement.sensitivity(preference, label)) == pytest.approx(3.5 / 4)
    assert float(agreement.specificity(preference, label)) == pytest.approx(1 / 2)
    # of the last four, 3 / 4 are wins by the judge: (0.75 + 0.5 - 1) / (0.875 + 0.5 - 1) = 2 / 3
    target = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert float(agreement.corrected_win_rate(preference, label, target)) == pytest.approx(2 / 3)


def test_without_people_who_prefer_the_baseline_nothing_is_corrected() -> None:
    columns = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, np.nan], [1.0, 1.0, 1.0]])
    assert math.isnan(float(agreement.corrected_win_rate(*columns)))


def draw(rng: np.random.Generator, n: int, labelled: int, true: float) -> np.ndarray:
    """n comparisons by a judge with sensitivity 0.85 and specificity 0.75, of which people judged the first so many."""
    truth = rng.random(n) < true
    preference = np.where(truth, rng.random(n) < 0.85, rng.random(n) > 0.75).astype(np.float64)
    label = np.where(np.arange(n) < labelled, truth.astype(np.float64), np.nan)
    return np.stack([preference, label, np.ones(n)])


def corrected(columns: np.ndarray, resamples: int) -> stats.Interval:
    clusters = stats.Clusters.of(range(columns.shape[1]))
    return stats.bca(columns, clusters, agreement.corrected_win_rate, resamples=resamples)


def test_the_calibrations_own_uncertainty_is_in_the_interval() -> None:
    """Delta method with separate samples (Rogan & Gladen 1978): p, sensitivity and specificity vary independently."""
    rng = np.random.default_rng(3)
    test, calibration = draw(rng, 4000, 0, 0.6), draw(rng, 800, 800, 0.5)
    calibration[2] = 0
    made = corrected(np.concatenate([test, calibration], axis=1), 2000)
    label, preference = calibration[1], calibration[0]
    p, sens = test[0].mean(), preference[label == 1].mean()
    spec = 1 - preference[label == 0].mean()
    index = sens + spec - 1
    rate = (p + spec - 1) / index
    variance = (
        p * (1 - p) / 4000
        + rate**2 * sens * (1 - sens) / (label == 1).sum()
        + (1 - rate) ** 2 * spec * (1 - spec) / (label == 0).sum()
    ) / index**2
    assert made.value == pytest.approx(rate)
    assert made.standard_error == pytest.approx(math.sqrt(variance), rel=0.06)
    naive = math.sqrt(p * (1 - p) / 4000) / index
    assert made.standard_error > 1.5 * naive, "an interval from the test sample alone claims too much"


def test_the_interval_covers_the_true_rate() -> None:
    rng = np.random.default_rng(11)
    intervals = [corrected(draw(rng, 300, 100, 0.65), 400) for _ in range(300)]
    covered = np.mean([each.low <= 0.65 <= each.high for each in intervals])
    # Binomial error of 300 samples at 95 %: 1.3 points; three of them either way.
    assert 0.91 <= covered <= 0.99
    raw = [float(draw(rng, 300, 100, 0.65)[0].mean()) for _ in range(300)]
    # What is corrected: the judge sees 0.65 · 0.85 + 0.35 · 0.25 = 0.64 of any sample, and half the distance from 50 %.
    assert np.mean(raw) == pytest.approx(0.64, abs=0.01)
