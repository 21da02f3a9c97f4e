"""How long intervals take: 10,000 resamples of 1,000 prompts for five models, and what grows with the number of prompts.

python -m harness_benchmarks.speed.intervals
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from harness import stats

PROMPTS = 1_000
MODELS = 5


def main() -> None:
    """Measure and print the table."""
    rng = np.random.default_rng(1)
    alone = stats.Clusters.of(range(PROMPTS))
    roots = stats.Clusters.of((np.arange(PROMPTS) // 4).tolist())
    many = stats.Clusters.of(range(50_000))
    models = rng.normal(size=(MODELS, 1, PROMPTS))
    columns = rng.normal(size=(2, PROMPTS))
    long = rng.choice([-1.0, -0.5, 0.0, 0.5, 1.0], size=(1, many.n))
    stats.bca(models[0], alone, resamples=10)  # imports scipy
    print("| what | resamples | seconds of one core |\n| --- | --- | --- |")
    _row(f"means of {MODELS} models, {PROMPTS:,} prompts", lambda: [stats.bca(each, alone) for each in models])
    _row(f"the same in {roots.count} roots", lambda: [stats.bca(each, roots) for each in models])
    _row(f"a rank correlation, {PROMPTS:,} prompts", lambda: [stats.bca(columns, alone, stats.spearman)])
    _row(f"a difference of preferences, {many.n:,} prompts", lambda: [stats.bca(long, many)])
    _row(f"a mean, {many.n:,} prompts", lambda: [stats.bca(rng.normal(size=(1, many.n)), many)])


def _row(what: str, work: Callable[[], list[stats.Interval]]) -> None:
    start = time.process_time()
    made = work()
    print(f"| {what} | {made[0].resamples:,} | {time.process_time() - start:.2f} |", flush=True)


if __name__ == "__main__":
    main()
