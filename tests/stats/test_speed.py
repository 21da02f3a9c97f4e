"""The bootstrap is quick enough to be run for every number of a report."""

from __future__ import annotations

import time

import numpy as np

from harness.stats import Clusters, bca, spearman
from harness.stats.resampling import left_out, replicates


def seconds(work) -> float:  # type: ignore[no-untyped-def]
    start = time.process_time()
    work()
    return time.process_time() - start


def test_ten_thousand_resamples_of_1000_prompts_and_5_models() -> None:
    """0.3 s where it was measured; `python -m harness_benchmarks.speed.statistics` prints it."""
    rng, clusters = np.random.default_rng(1), Clusters.of(range(1000))
    models = rng.normal(size=(5, 1, 1000))
    bca(models[0], clusters, resamples=10)  # imports
    assert seconds(lambda: [bca(each, clusters) for each in models]) < 2


def test_fifty_thousand_preferences_take_no_longer_than_a_thousand() -> None:
    """Few kinds of cluster are drawn as counts."""
    rng, clusters = np.random.default_rng(2), Clusters.of(range(50_000))
    differences = rng.choice([-1.0, -0.5, 0, 0.5, 1.0], size=(1, 50_000))
    assert seconds(lambda: bca(differences, clusters)) < 1


def test_refitting_scales_its_resamples() -> None:
    rng, clusters = np.random.default_rng(3), Clusters.of(range(20_000))
    columns = rng.normal(size=(2, 20_000))
    spent = seconds(lambda: bca(columns, clusters, spearman))  # 1,000 resamples and 250 blocks left out of 20,000
    assert spent < 30


def test_kinds_of_clusters_are_drawn_like_clusters() -> None:
    """The multinomial shortcut has the bootstrap's distribution: mean p, variance p(1 - p) / n."""
    values, clusters = np.repeat([0.0, 1.0], [350, 150])[None], Clusters.of(range(500))
    found = replicates(values, clusters, resamples=40_000, seed=1)
    assert found.mean() == np.float64(0.3).item() or abs(found.mean() - 0.3) < 4 * (0.21 / 500 / 40_000) ** 0.5
    assert abs(found.var() / (0.21 / 500) - 1) < 0.03
    # Clusters of unequal size keep theirs: sizes 1 and 3 with sums 1 and 0, ten of each.
    sizes = Clusters.of([*range(10), *np.repeat(range(10, 20), 3).tolist()] * 1)
    uneven = replicates(np.repeat([1.0, 0.0], [10, 30])[None], sizes, resamples=20_000, seed=2)
    slow = replicates(np.repeat([1.0, 0.0], [10, 30])[None], sizes, lambda x: x.mean(axis=-1), resamples=20_000, seed=3)
    assert abs(uneven.mean() - slow.mean()) < 0.005
    assert abs(uneven.std() / slow.std() - 1) < 0.03


def test_blocks_give_the_skewness_of_single_clusters() -> None:
    values = np.random.default_rng(4).exponential(size=(1, 3000))
    clusters = Clusters.of(range(3000))

    def acceleration(without: np.ndarray) -> float:
        short = without.mean() - without
        return float((short**3).sum() / (6 * np.square(short).sum() ** 1.5))

    one_by_one = acceleration(left_out(values, clusters))
    blocks = left_out(values, clusters, lambda x: x.mean(axis=-1))
    assert len(blocks) == 5_000_000 // 3000
    assert abs(acceleration(blocks) - one_by_one) < 0.003  # 2 / (6 √3000) = 0.0061
