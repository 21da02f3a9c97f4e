"""How often the intervals of `harness.stats` hold the truth, on grids of true rates and of skewed means.

    python -m harness_benchmarks.coverage --repeats 4000

Prints, for each method and number of prompts, the coverage of nominal 95 % intervals averaged over its grid, and the least
on it. For rates of independent prompts coverage is exact: a sum over the binomial or trinomial
distribution. All else is simulated, seeded, with the functions that make the estimates of a run.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import stats

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Floats]

SIZES = (30, 100, 500)
RATES = tuple(round(0.02 + 0.01 * step, 2) for step in range(97))
SPARSE_RATES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98)
DISCORDANT = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.9)
BALANCES = (0.0, 0.5, 0.9)
FEW_ROOTS = (5, 9)
SEEDS = (2, 3, 5)
SEED_SPREADS = (0.0, 0.1, 0.3)
PROMPT_SPREADS = (0.3, 1.0)
CROSSED_RATES = (0.05, 0.2, 0.5, 0.9)
SIBLINGS = 4
CORRELATION = 0.3
"""Of the siblings in clustered samples, and the concentration of the beta distribution that makes it so: 1 / ρ - 1."""


@dataclass(frozen=True)
class Coverage:
    """Coverage of one method at one number of prompts: by point of the grid."""

    method: str
    n: int
    points: Mapping[str, float]

    @property
    def average(self) -> float:
        """Over the grid."""
        return sum(self.points.values()) / len(self.points)

    @property
    def least(self) -> tuple[float, str]:
        """The least coverage on the grid, and where."""
        return min((value, name) for name, value in self.points.items())


# --- exact ---------------------------------------------------------------------------------------------------------------


def rates(interval: Callable[[int, int], tuple[float, float]], name: str, n: int) -> Coverage:
    """Of an interval for a rate, from the counts: Σ over k of binomial(k; n, p) where the interval of k holds p."""
    from scipy.stats import binom

    counts = np.arange(n + 1)
    low, high = np.array([interval(int(k), n) for k in counts]).T
    return Coverage(
        name,
        n,
        {f"rate {p:g}": float(binom.pmf(counts, n, p)[(low <= p) & (p <= high)].sum()) for p in RATES},
    )


def rate_differences(n: int, discordant: Sequence[float] = DISCORDANT) -> Coverage:
    """Of `rate_difference_interval`: Σ over counts of both kinds of discordant pair of their trinomial probability."""
    from scipy.stats import binom

    clusters = stats.Clusters.of(range(n))
    points: dict[str, float] = {}
    limits: dict[tuple[int, int], tuple[float, float]] = {}

    def held(up: int, down: int, truth: float) -> bool:
        if (up, down) not in limits:
            values = np.zeros(n)
            values[:up], values[up : up + down] = 1.0, -1.0
            interval = stats.rate_difference_interval(values, clusters)
            limits[up, down] = interval.low, interval.high
        low, high = limits[up, down]
        return low - 1e-12 <= truth <= high + 1e-12

    for share in discordant:
        for balance in BALANCES:
            truth, first, total = share * balance, (1 + balance) / 2, 0.0
            for differ in _likely(n, share):
                of_so_many = float(binom.pmf(differ, n, share))
                for up in _likely(differ, first):
                    if held(up, differ - up, truth):
                        total += of_so_many * float(binom.pmf(up, differ, first))
            points[f"discordant {share:g}, difference {truth:g}"] = total
    return Coverage("difference of rates: agresti-min", n, points)


def _likely(n: int, rate: float) -> range:
    """The counts that a binomial distribution gives with all but 1e-9 of its probability."""
    from scipy.stats import binom

    return range(int(binom.ppf(5e-10, n, rate)) if n else 0, (int(binom.ppf(1 - 5e-10, n, rate)) if n else 0) + 1)


# --- simulated -----------------------------------------------------------------------------------------------------------


def skewed_means() -> dict[str, tuple[float, Draw]]:
    """Populations of means with their truth, the name with its skewness. A sample is (groups, siblings)."""

    def shared(rng: np.random.Generator, groups: int, siblings: int, share: float) -> Floats:
        """Normal values, of which siblings have a part in common."""
        common = rng.normal(size=(groups, 1))
        return np.asarray(np.sqrt(share) * common + np.sqrt(1 - share) * rng.normal(size=(groups, siblings)))

    def lognormal(sigma: float) -> tuple[float, Draw]:
        return float(np.exp(sigma**2 / 2)), lambda rng, g, m: np.exp(sigma * shared(rng, g, m, CORRELATION if m > 1 else 0))

    def gamma(shape: float) -> tuple[float, Draw]:
        # A gamma variable is a sum of two: siblings have the first in common.
        def draw(rng: np.random.Generator, groups: int, siblings: int) -> Floats:
            part = shape * CORRELATION if siblings > 1 else 0.0
            common = rng.gamma(part, size=(groups, 1)) if part else 0.0
            return np.asarray(common + rng.gamma(shape - part, size=(groups, siblings)))

        return shape, draw

    return {
        "normal": (0.0, lambda rng, g, m: shared(rng, g, m, CORRELATION if m > 1 else 0)),
        "gamma of skewness 1.4": gamma(2.0),
        "exponential, skewness 2": gamma(1.0),
        "lognormal of skewness 1.8": lognormal(0.5),
        "lognormal of skewness 6.2": lognormal(1.0),
    }


def preferences(ties: float) -> dict[str, tuple[float, Draw]]:
    """Win rates: for a share of prompts two votes are averaged, so that they may tie. `ties` is that share."""

    def one(rate: float) -> Draw:
        def draw(rng: np.random.Generator, groups: int, siblings: int) -> Floats:
            concentration = 1 / CORRELATION - 1
            chance = (
                rng.beta(rate * concentration, (1 - rate) * concentration, size=(groups, 1, 1)) if siblings > 1 else rate
            )
            votes = rng.uniform(size=(groups, siblings, 2)) < chance
            two = rng.uniform(size=(groups, siblings)) < ties
            return np.where(two, votes.mean(axis=-1), votes[..., 0])

        return draw

    return {f"rate {rate:g}": (rate, one(rate)) for rate in SPARSE_RATES}


def shares() -> dict[str, tuple[float, Draw]]:
    """Means of shares that lie anywhere in [0, 1], such as repetition or a judge's probabilities: beta(3p, 3(1 - p))."""

    def one(rate: float) -> Draw:
        return lambda rng, groups, siblings: rng.beta(3 * rate, 3 * (1 - rate), size=(groups, siblings))

    return {f"share {rate:g}": (rate, one(rate)) for rate in SPARSE_RATES}


def preference_differences() -> dict[str, tuple[float, Draw]]:
    """Differences of two win rates with ties against one baseline, whose votes agree with each other now and then."""

    def one(rate: float, more: float) -> Draw:
        def draw(rng: np.random.Generator, groups: int, siblings: int) -> Floats:
            # The two candidates' votes share half of their luck; it is the prompt's, or the whole root's.
            common = rng.uniform(size=(groups, siblings, 2))
            own = rng.uniform(size=(2, groups, siblings, 2))
            luck = np.where(rng.uniform(size=(groups, siblings, 2)) < 0.5, common, own)
            return np.asarray((luck[0] < rate + more).mean(axis=-1) - (luck[1] < rate).mean(axis=-1))

        return draw

    return {
        f"rates {rate:g} and {rate + more:g}": (more, one(rate, more))
        for rate in (0.1, 0.3, 0.5, 0.8)
        for more in (0.0, 0.1)
    }


def simulated(
    method: str,
    interval: Callable[[Floats, stats.Clusters, int], stats.Interval],
    populations: Mapping[str, tuple[float, Draw]],
    n: int,
    *,
    siblings: int = 1,
    repeats: int,
    seed: int = 0,
) -> Coverage:
    """How many of `repeats` samples of n prompts, in roots of `siblings`, have an interval that holds the truth."""
    groups = n // siblings
    clusters = stats.Clusters.of(np.repeat(range(groups), siblings).tolist())
    points = {}
    for place, (name, (truth, draw)) in enumerate(populations.items()):
        rng, held = np.random.default_rng((seed, place, n)), 0
        for repeat in range(repeats):
            found = interval(draw(rng, groups, siblings).ravel(), clusters, repeat)
            held += found.low - 1e-12 <= truth <= found.high + 1e-12
        points[name] = held / repeats
    return Coverage(method, n, points)


def crossed(seeds: int, n: int, repeats: int, *, rate: bool = False) -> Coverage:
    """Of intervals over training seeds and prompts: normal effects of both and of each cell, whose own spread is 1.

    A rate is how often the sum of the three exceeds a threshold.
    """
    from scipy.stats import norm

    points, roots = {}, [range(n)] * seeds
    thresholds = tuple(float(norm.isf(share)) for share in CROSSED_RATES) if rate else (0.0,)
    for place, (of_seeds, of_prompts, threshold) in enumerate(itertools.product(SEED_SPREADS, PROMPT_SPREADS, thresholds)):
        rng, held = np.random.default_rng((seeds, place, n)), 0
        truth, spread = (float(norm.sf(threshold)) if rate else 0.0), math.sqrt(of_seeds**2 + of_prompts**2 + 1)
        for _ in range(repeats):
            cells = of_seeds * rng.normal(size=(seeds, 1)) + of_prompts * rng.normal(size=n) + rng.normal(size=(seeds, n))
            values = (cells > threshold * spread).astype(np.float64) if rate else cells
            found = stats.crossed_interval([row[None] for row in values], roots, rate="rate" if rate else None)
            held += found.low - 1e-12 <= truth <= found.high + 1e-12
        points[f"seeds {of_seeds:g}, prompts {of_prompts:g}{f', rate {truth:.2g}' if rate else ''}"] = held / repeats
    return Coverage(f"{seeds} seeds: crossed-{'wilson' if rate else 't'}", n, points)


def bca(resamples: int) -> Callable[[Floats, stats.Clusters, int], stats.Interval]:
    """The BCa bootstrap of a mean, as estimates have it but for the number of resamples."""
    return lambda values, clusters, seed: stats.bca(values[None], clusters, resamples=resamples, seed=seed)


def percentile(resamples: int) -> Callable[[Floats, stats.Clusters, int], stats.Interval]:
    """The percentile bootstrap of a mean."""
    return lambda values, clusters, seed: stats.percentile(values[None], clusters, resamples=resamples, seed=seed)


def student(values: Floats, clusters: stats.Clusters, _seed: int) -> stats.Interval:
    """Student's interval of a mean."""
    return stats.student_t(values, clusters)


def score(values: Floats, clusters: stats.Clusters, _seed: int) -> stats.Interval:
    """Wilson's interval of a mean in [0, 1]."""
    return stats.rate_interval(values, clusters)


def everything(repeats: int, resamples: int, sizes: Sequence[int] = SIZES) -> Iterator[Coverage]:
    """Every method on its grid."""
    for n in sizes:
        yield rates(stats.wilson, "rate: wilson", n)
        yield rates(stats.clopper_pearson, "rate: clopper-pearson", n)
        yield rate_differences(n)
    simulations: tuple[tuple[str, Any, Any, int], ...] = (
        ("rate: wilson-clustered", score, preferences(0.0), SIBLINGS),
        ("preference with ties: wilson", score, preferences(0.4), 1),
        ("preference with ties: wilson-clustered", score, preferences(0.4), SIBLINGS),
        ("share: wilson", score, shares(), 1),
        ("mean: bca", bca(resamples), skewed_means(), 1),
        ("mean: bca-clustered", bca(resamples), skewed_means(), SIBLINGS),
        ("mean: percentile", percentile(resamples), skewed_means(), 1),
        ("mean: student-t", student, skewed_means(), 1),
        ("difference of preferences: bca", bca(resamples), preference_differences(), 1),
    )
    for method, interval, populations, siblings in simulations:
        for n in sizes:
            # Seven roots of four would be too few to resample.
            few = siblings if n > 30 else min(siblings, 2)
            yield simulated(method, interval, populations, n, siblings=few, repeats=repeats)
    for seeds, n, rate in itertools.product(SEEDS, sizes, (False, True)):
        yield crossed(seeds, n, repeats, rate=rate)
    for roots in FEW_ROOTS:
        yield simulated("mean: student-t", student, skewed_means(), roots, repeats=repeats)


def table(found: Sequence[Coverage]) -> Iterator[str]:
    """A row for each method: average and, in brackets, the least on its grid, by number of prompts."""
    sizes = sorted({each.n for each in found})
    yield f"| method | {' | '.join(f'{n} prompts' for n in sizes)} | the least of all is at |"
    yield "| --- |" + " --- |" * (len(sizes) + 1)
    for method in dict.fromkeys(each.method for each in found):
        by_size = {each.n: each for each in found if each.method == method}
        cells = [f"{100 * each.average:.1f} ({100 * each.least[0]:.1f})" if (each := by_size.get(n)) else "" for n in sizes]
        _, where = min(each.least for each in by_size.values())
        yield f"| {method} | {' | '.join(cells)} | {where} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Coverage of 95 % intervals.")
    parser.add_argument("--repeats", type=int, default=1000, help="samples for each point of a simulated grid")
    parser.add_argument("--resamples", type=int, default=2000, help="of each bootstrap")
    options = parser.parse_args(arguments)
    for row in table(list(everything(options.repeats, options.resamples))):
        print(row)  # noqa: T201


if __name__ == "__main__":
    main()
