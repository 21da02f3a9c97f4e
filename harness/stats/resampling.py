"""What a statistic becomes when whole clusters of prompts are drawn anew, or left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .clusters import Clusters, Floats, Indices

BATCH_ELEMENTS = 1_000_000
"""How many resampled observations are held in memory at a time."""

FITTED_ELEMENTS = 5_000_000
"""How many resampled observations a fitted statistic is computed of, in all, before its resamples become fewer."""

FEWEST_RESAMPLES = 1_000
"""A 95 % limit rests on the 25 outermost of so many."""


def resamples_for(asked: int, n: int) -> int:
    """How many resamples of n observations a fitted statistic gets of those asked for.

    Refitting costs time in proportion to n, while the Monte Carlo error of a limit depends on the resamples alone: 10,000
    of 500 observations, 1,000 of 5,000 and more.
    """
    return min(asked, max(FEWEST_RESAMPLES, FITTED_ELEMENTS // n))


def replicates(
    columns: Floats,
    clusters: Clusters,
    statistic: Callable[..., Any] | None = None,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Floats:
    """A statistic of `columns` (k, n) in each of `resamples` resamples of whole clusters, (resamples,).

    As many clusters as there are, drawn with replacement, each with all of its observations in every column (Field & Welsh
    2007). `statistic` gets the k columns, each of shape (..., n'), and returns shape (...); without one it is the mean of
    the only column. A fitted statistic gets `resamples_for` of them.
    """
    rng, count = np.random.default_rng(seed), clusters.count
    if statistic is None:
        return _means(columns[0], clusters, resamples, rng)
    resamples = resamples_for(resamples, clusters.n)
    fit = _refit(columns, clusters, statistic)
    return np.concatenate(
        [fit(rng.integers(0, count, (size, count), np.int32)) for size in _batches(resamples, clusters.n)]
    )


def left_out(
    columns: Floats,
    clusters: Clusters,
    statistic: Callable[..., Any] | None = None,
    *,
    seed: int = 0,
    blocks: bool = True,
) -> Floats:
    """The statistic without each cluster in turn, (G,): the jackknife.

    Where refitting all of them would take more than FITTED_ELEMENTS observations, clusters are left out in `blocks`, at
    least a hundred of them; the skewness that acceleration is made of is the same but for noise.
    """
    count = clusters.count
    if statistic is None:
        sums, sizes = clusters.sums(columns[0]), clusters.sizes
        return np.asarray((sums.sum() - sums) / (sizes.sum() - sizes))
    fit = _refit(columns, clusters, statistic)
    parts = min(count, max(100, FITTED_ELEMENTS // clusters.n)) if blocks else count
    order = np.arange(count) if parts == count else np.random.default_rng(seed).permutation(count)
    kept = [np.delete(order, slice(start, stop)) for start, stop in _edges(count, parts)]
    results, done = [], 0
    for size in _batches(parts, clusters.n):
        batch = kept[done : done + size]
        done += size
        lengths = {len(each) for each in batch}
        results += [fit(np.stack([each for each in batch if len(each) == length])) for length in sorted(lengths)]
    return np.concatenate(results)


def _means(values: Floats, clusters: Clusters, resamples: int, rng: np.random.Generator) -> Floats:
    """The mean of drawn clusters, from their sums and sizes alone."""
    sums, sizes, count = clusters.sums(values), clusters.sizes, clusters.count
    kinds, often = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)
    if 10 * len(often) <= count:
        # How often each kind of cluster is drawn is multinomial: the same distribution, at a cost that n has no part in.
        drawn = rng.multinomial(count, often / count, size=resamples)
        return np.asarray((drawn @ kinds[0]) / (drawn @ kinds[1]))
    alike, made = bool(np.ptp(sizes) == 0), []
    for size in _batches(resamples, count):
        draws = rng.integers(0, count, (size, count), np.int32)
        total = np.take(sums, draws).sum(axis=-1)
        made.append(total / (count * sizes[0] if alike else np.take(sizes, draws).sum(axis=-1)))
    return np.concatenate(made)


def _refit(columns: Floats, clusters: Clusters, statistic: Callable[..., Any]) -> Callable[[Indices], Floats]:
    """The statistic of drawn clusters: (..., G) -> (...).

    Clusters differ in size, so resamples differ in length; those of one length are computed in one call.
    """

    def replicate(draws: Indices) -> Floats:
        flat = draws.reshape(-1, draws.shape[-1])
        lengths = clusters.sizes[flat].sum(axis=-1)
        by_length = np.argsort(lengths, kind="stable")
        rows = clusters.rows(flat[by_length].ravel())
        values = np.empty(len(flat))
        done = used = 0
        for length, count in zip(*np.unique(lengths, return_counts=True), strict=True):
            block = rows[used : used + length * count].reshape(count, length)
            values[by_length[done : done + count]] = statistic(*(column[block] for column in columns))
            done, used = done + count, used + length * count
        return values.reshape(draws.shape[:-1])

    return replicate


def _batches(total: int, width: int) -> Iterator[int]:
    """Sizes that sum to `total`, each of at most BATCH_ELEMENTS / width rows."""
    size = max(1, BATCH_ELEMENTS // width)
    for start in range(0, total, size):
        yield min(size, total - start)


def _edges(count: int, blocks: int) -> Iterator[tuple[int, int]]:
    """Where each of `blocks` blocks of nearly equal size begins and ends among `count`."""
    for block in range(blocks):
        yield block * count // blocks, (block + 1) * count // blocks
