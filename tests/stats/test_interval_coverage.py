"""How often a 95 % interval holds the truth: exactly where it can be summed up, else simulated with fixed seeds.

The grids and their populations are those of `harness_benchmarks.coverage`, which prints the table of docs/statistics.md. A
method's coverage averaged over its grid lies between 93 and 97 %; the cases that do not reach that have bounds of their
own, the same as in the docs.
"""

from __future__ import annotations

import numpy as np
import pytest
from harness_benchmarks import coverage

from harness.stats import Clusters, bca, clopper_pearson, rate_interval, wilson


def check(found: coverage.Coverage, floor: float, average: tuple[float, float] = (0.93, 0.97)) -> None:
    assert average[0] <= found.average <= average[1], found
    assert found.least[0] >= floor, found


@pytest.mark.parametrize(("n", "floor"), [(30, 0.925), (100, 0.93), (500, 0.94)])
def test_wilson(n: int, floor: float) -> None:
    check(coverage.rates(wilson, "wilson", n), floor)


@pytest.mark.parametrize("n", [30, 100, 500])
def test_clopper_pearson_never_covers_too_little(n: int) -> None:
    """That is what it is for, and why it covers a little too much on average: 97.3 % at 30."""
    check(coverage.rates(clopper_pearson, "clopper-pearson", n), floor=0.95, average=(0.95, 0.975))


@pytest.mark.parametrize(("n", "floor"), [(30, 0.93), (100, 0.935), (500, 0.945)])
def test_differences_of_rates(n: int, floor: float) -> None:
    check(coverage.rate_differences(n, (0.02, 0.4) if n == 500 else coverage.DISCORDANT), floor)


METHODS = {
    "clustered rate": (coverage.score, coverage.preferences(0.0), 4),
    "preference with ties": (coverage.score, coverage.preferences(0.4), 1),
    "clustered preference with ties": (coverage.score, coverage.preferences(0.4), 4),
    "share": (coverage.score, coverage.shares(), 1),
    "mean": (coverage.bca(600), coverage.skewed_means(), 1),
    "clustered mean": (coverage.bca(600), coverage.skewed_means(), 4),
    "difference of preferences": (coverage.bca(600), coverage.preference_differences(), 1),
    "mean by percentiles": (coverage.percentile(600), coverage.skewed_means(), 1),
    "mean by Student's t": (coverage.student, coverage.skewed_means(), 1),
}
FLOORS = {
    ("clustered rate", 30): 0.92, ("clustered rate", 100): 0.92, ("clustered rate", 500): 0.92,
    ("preference with ties", 30): 0.91, ("preference with ties", 100): 0.93, ("preference with ties", 500): 0.935,
    ("clustered preference with ties", 30): 0.91, ("clustered preference with ties", 100): 0.915,
    ("clustered preference with ties", 500): 0.915,
    ("share", 30): 0.82, ("share", 100): 0.9, ("share", 500): 0.93,
    ("mean", 30): 0.89, ("mean", 100): 0.91, ("mean", 500): 0.925,
    ("clustered mean", 30): 0.88, ("clustered mean", 100): 0.9, ("clustered mean", 500): 0.92,
    ("difference of preferences", 30): 0.91, ("difference of preferences", 100): 0.93,
    ("difference of preferences", 500): 0.93,
}  # fmt: skip
FLOORS |= {
    (method, n): floor
    for method in ("mean by percentiles", "mean by Student's t")
    for n, floor in {30: 0.87, 100: 0.9, 500: 0.925}.items()
}
AVERAGES = {
    ("share", 30): (0.915, 0.97),
    ("clustered mean", 30): (0.92, 0.97),
    ("mean by percentiles", 30): (0.92, 0.97),
    ("mean by Student's t", 30): (0.92, 0.97),
}
"""Where 93 % is not reached, or hardly: skewed values, of few roots, close to their end, or by a method that is not used."""


def simulate(method: str, n: int, repeats: int) -> coverage.Coverage:
    interval, populations, siblings = METHODS[method]
    few = min(siblings, 2) if n == 30 else siblings
    return coverage.simulated(method, interval, populations, n, siblings=few, repeats=repeats)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "n"), list(FLOORS))
def test_simulated_coverage(method: str, n: int) -> None:
    check(simulate(method, n, 2000), FLOORS[method, n], AVERAGES.get((method, n), (0.93, 0.97)))


@pytest.mark.parametrize(("method", "n"), [each for each in FLOORS if each[1] < 500])
def test_simulated_coverage_on_fewer_samples(method: str, n: int) -> None:
    """Three standard errors of 250 samples are 4 points, and of an average over five populations less than 2."""
    low, high = AVERAGES.get((method, n), (0.93, 0.97))
    check(simulate(method, n, 250), FLOORS[method, n] - 0.04, (low - 0.015, high + 0.01))


@pytest.mark.parametrize("roots", [5, 9])
def test_student_with_few_roots(roots: int) -> None:
    """Exact for normal values; skewed ones, of which so few say too little, get what there is."""
    normal, *skewed = coverage.skewed_means().items()
    check(coverage.simulated("student-t", coverage.student, dict([normal]), roots, repeats=3000), floor=0.935)
    check(coverage.simulated("student-t", coverage.student, dict(skewed), roots, repeats=1000), 0.8, (0.87, 0.97))


def test_a_bootstrap_of_a_rare_event_does_not_cover() -> None:
    """Why no rate is bootstrapped: of thirty prompts at 2 % most samples hold no event at all."""
    rng, clusters = np.random.default_rng(10), Clusters.of(range(30))
    held: dict[str, int] = {"wilson": 0, "bca": 0}
    for seed in range(400):
        values = (rng.uniform(size=30) < 0.02).astype(float)
        for name, found in {
            "wilson": rate_interval(values, clusters),
            "bca": bca(values[None], clusters, resamples=500, seed=seed),
        }.items():
            held[name] += found.low <= 0.02 <= found.high
    assert held["wilson"] / 400 > 0.95
    assert held["bca"] / 400 < 0.5


def test_clustered_rate_covers_and_the_naive_one_does_not() -> None:
    rng, groups, size, repeats = np.random.default_rng(11), 20, 5, 600
    clusters = Clusters.of(np.repeat(range(groups), size).tolist())
    alone = Clusters.of(range(groups * size))
    held = naive = 0
    for _ in range(repeats):
        rates = rng.beta(0.7, 1.633, size=groups)  # mean 0.3, correlation of siblings 1 / (0.7 + 1.633 + 1) = 0.3
        values = (rng.uniform(size=(groups, size)) < rates[:, None]).astype(float).ravel()
        for interval, kind in ((rate_interval(values, clusters), "clustered"), (rate_interval(values, alone), "naive")):
            inside = interval.low <= 0.3 <= interval.high
            held += inside and kind == "clustered"
            naive += inside and kind == "naive"
    assert held / repeats > 0.92
    assert naive / repeats < 0.87


def test_clustered_bootstrap_covers_and_the_naive_one_does_not() -> None:
    rng, groups, size, repeats = np.random.default_rng(12), 25, 4, 400
    clusters = Clusters.of(np.repeat(range(groups), size).tolist())
    alone = Clusters.of(range(groups * size))
    held = naive = 0
    for seed in range(repeats):
        # Correlation of siblings 0.5: half of the variance belongs to the cluster.
        values = (rng.normal(size=(groups, 1)) + rng.normal(size=(groups, size))).ravel()
        right = bca(values[None], clusters, resamples=600, seed=seed)
        wrong = bca(values[None], alone, resamples=600, seed=seed)
        held += right.low <= 0 <= right.high
        naive += wrong.low <= 0 <= wrong.high
    assert held / repeats > 0.91
    assert naive / repeats < 0.87


def test_expansion_mends_small_samples() -> None:
    """Ten normal prompts: the plain BCa interval covers about 88 %, ours well over 90 %."""
    rng, clusters, repeats = np.random.default_rng(13), Clusters.of(range(10)), 600
    held = 0
    for seed in range(repeats):
        interval = bca(rng.normal(size=(1, 10)), clusters, resamples=600, seed=seed)
        held += interval.low <= 0 <= interval.high
    assert held / repeats > 0.905
