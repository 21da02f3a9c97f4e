"""Intervals over training seeds and prompts, against hand-worked layouts and over simulated ones."""

from __future__ import annotations

import numpy as np
import pytest
from harness_benchmarks import coverage
from scipy.stats import t as student_t

from harness import Measure
from harness.records import Observation
from harness.stats import TooFewPrompts, crossed_interval, estimate, paired_difference, standard_error
from harness.stats.clusters import Clusters

# Two seeds by three prompts: means by seed 2 and 4, by prompt 2, 3 and 4; the mean is 3.
TABLE = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])


def crossed(table, **options):
    count = table.shape[1]
    return crossed_interval([row[None] for row in table], [range(count)] * len(table), **options)


def test_the_mean_squares_of_a_layout_worked_by_hand():
    found = crossed(TABLE)
    # MS_seed = 3 · 2 = 6, MS_root = 2 · 1 = 2, MS_rest = 0; variance (6 + 2) / 6, freedom 8² / 6² = 1.78.
    assert found.value == 3
    assert found.standard_error == pytest.approx((8 / 6) ** 0.5)
    assert found.seed_error == pytest.approx(1.0)
    assert found.prompt_error == pytest.approx((2 / 6) ** 0.5)
    half = student_t.ppf(0.975, 64 / 36) * (8 / 6) ** 0.5
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))


def test_the_rest_is_counted_once():
    table = np.array([[0.0, 0.0, 3.0, 1.0], [2.0, 1.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0]])
    found = crossed(table)
    by_seed, by_root = table.mean(1), table.mean(0)
    rest = table - by_seed[:, None] - by_root + table.mean()
    ms_seed, ms_root, ms_rest = 4 * by_seed.var(ddof=1), 3 * by_root.var(ddof=1), (rest**2).sum() / 6
    assert ms_root > ms_rest
    assert found.standard_error**2 == pytest.approx((ms_seed + ms_root - ms_rest) / 12)


def test_no_interval_is_narrower_than_that_of_the_prompts_alone():
    rng = np.random.default_rng(3)
    row = rng.normal(size=40)
    table = np.stack([row, row[::-1]])  # two seeds with the very same mean
    found = crossed(table)
    alone = standard_error(table.mean(0), Clusters.of(range(40)))
    assert found.seed_error == pytest.approx(0, abs=1e-12)
    assert found.high - found.value == pytest.approx(student_t.ppf(0.975, 39) * alone)


def test_one_seed_is_refused_and_so_is_one_root():
    with pytest.raises(ValueError, match="one seed"):
        crossed(TABLE[:1])
    with pytest.raises(TooFewPrompts, match="one conversation root"):
        crossed_interval([row[None] for row in TABLE], [["a"] * 3] * 2)


def test_siblings_count_as_in_the_clustered_standard_error():
    values, roots = np.array([1.0, 0.0, 4.0, 2.0, 2.0]), ["a", "a", "b", "c", "c"]
    found = crossed_interval([values[None], values[None] + 1], [roots, roots])
    assert found.prompt_error == pytest.approx(standard_error(values, Clusters.of(roots)))


def test_a_prompt_that_one_seed_lacks_leaves_the_means_of_both():
    found = crossed_interval([np.array([[1.0, 2.0, 3.0]]), np.array([[4.0, 8.0]])], [["a", "b", "c"], ["a", "c"]])
    assert found.value == pytest.approx((2 + 6) / 2)
    assert found.low < found.value < found.high


def test_a_fitted_statistic_has_the_pseudo_values_of_the_jackknife():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(3, 12))

    def mean(column):
        return column.mean(axis=-1)

    as_mean, as_fitted = crossed(table), crossed(table, statistic=mean)
    assert (as_fitted.low, as_fitted.high, as_fitted.seed_error) == pytest.approx(
        (as_mean.low, as_mean.high, as_mean.seed_error)
    )


def test_a_root_that_one_seed_lacks_counts_alike_for_a_mean_and_for_its_jackknife():
    samples, roots = [np.array([[1.0, 2.0, 6.0]]), np.array([[4.0, 8.0]])], [["a", "b", "c"], ["a", "c"]]
    as_mean = crossed_interval(samples, roots)
    as_fitted = crossed_interval(samples, roots, lambda column: column.mean(axis=-1))
    assert as_fitted.prompt_error == pytest.approx(as_mean.prompt_error)
    assert (as_fitted.low, as_fitted.high) == pytest.approx((as_mean.low, as_mean.high))


def test_a_fitted_statistic_keeps_its_own_value():
    table = np.random.default_rng(0).normal(size=(2, 9))
    found = crossed(table, statistic=lambda column: column.var(axis=-1))
    assert found.value == pytest.approx(table.var(axis=1).mean())


@pytest.mark.parametrize(("value", "rate"), [(0.0, "rate"), (1.0, "rate"), (0.0, "difference"), (-1.0, "difference")])
def test_where_nothing_varies_the_seeds_may_be_copies(value, rate):
    found = crossed(np.full((3, 20), value), rate=rate)
    assert found.low <= value <= found.high
    assert found.high - found.low > 0.05
    assert found.standard_error is None


def test_rounding_is_no_difference():
    found = crossed(np.full((3, 7), 0.1), null=0.0)
    assert (found.standard_error, found.method) == (0.0, "exact-constant")
    assert found.p_value == pytest.approx(2 / 2**7)


def test_the_interval_of_a_rate_stays_within_its_range():
    table = np.zeros((3, 25))
    table[0, 0] = table[1, 3] = 1
    found = crossed(table, rate="rate")
    assert 0 < found.low < 2 / 75 < found.high < 1
    assert found.method == "crossed-wilson"


def test_the_p_value_is_students_and_exact_where_nothing_varies():
    found = crossed(TABLE, null=0.0)
    assert found.p_value == pytest.approx(2 * student_t.sf(3 / (8 / 6) ** 0.5, 64 / 36))
    assert crossed(np.ones((2, 5)), null=0.0).p_value == pytest.approx(2 / 2**5)


def observations(table, model="dpo", others=None, metric="length"):
    return [
        Observation(
            prompt_id=str(prompt),
            root=str(prompt),
            suite="s",
            model=model,
            metric=metric,
            training_seed=seed,
            value=value,
            baseline_value=None if others is None else others[seed][prompt],
        )
        for seed, row in enumerate(table)
        for prompt, value in enumerate(row)
    ]


def test_an_estimate_over_seeds_says_what_either_gives():
    found = estimate(observations(TABLE), Measure("length", "tokens"))
    assert (found.seeds, found.n, found.clusters, found.value) == (2, 6, 3, 3.0)
    assert (found.seed_error, found.prompt_error) == pytest.approx((1.0, (2 / 6) ** 0.5))
    once = estimate(observations(TABLE[:1]), Measure("length", "tokens"))
    assert (once.seeds, once.seed_error, once.prompt_error) == (None, None, None)


def test_a_fitted_win_rate_stays_below_one():
    table = np.array([[0.9, 1.0, 1.0, 0.8], [1.0, 1.0, 0.95, 1.0]])
    measure = Measure("controlled-win-rate", "share of prompts", statistic=lambda column: column.mean(axis=-1))
    found = estimate(observations(table, metric="controlled-win-rate"), measure)
    assert 0 < found.low < found.value < found.high <= 1
    assert found.method == "crossed-wilson"


def test_a_difference_over_seeds_is_within_each_seed():
    found = estimate(observations(TABLE, others=TABLE - [[1.0], [2.0]]), Measure("length", "tokens"), baseline="sft")
    assert found.value == pytest.approx(1.5)
    assert found.prompt_error == pytest.approx(0.0)
    assert found.seed_error == pytest.approx(0.5)


def test_a_model_that_was_trained_once_stands_against_every_seed():
    once = [o.model_copy(update={"training_seed": None}) for o in observations(np.array([[1.0, 1.0, 2.0]]), model="base")]
    found = paired_difference(observations(TABLE), once, Measure("length", "tokens"))
    assert found.value == pytest.approx(3 - 4 / 3)
    assert found.n == 6


@pytest.mark.parametrize("n", [30, 200])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_coverage_of_means(seeds: int, n: int) -> None:
    found = coverage.crossed(seeds, n, 200)
    assert 0.93 <= found.average <= 0.975, found
    assert found.least[0] >= 0.86, found


@pytest.mark.parametrize("seeds", [3, 5])
def test_coverage_of_rates(seeds: int) -> None:
    found = coverage.crossed(seeds, 100, 120, rate=True)
    assert 0.93 <= found.average <= 0.98, found
    assert found.least[0] >= 0.86, found
