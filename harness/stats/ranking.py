"""Many models in one ranking: Bradley-Terry strengths, intervals clustered by prompt, and what cannot be told apart."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import StageError
from ..records import Estimate
from .bradley_terry import bradley_terry, components, penalised, strongly_connected, unbounded
from .clusters import ROUNDING, Clusters, Floats, Indices

DRAWN = 20_000_000
"""How many clusters are drawn, or a quarter as many cells of the table of wins filled, before the resamples become fewer."""

FEWEST_RESAMPLES = 400
"""As few as that for the largest files; a 95 % limit rests on the ten outermost."""


class NotConnected(StageError):
    """Some models never met the others, not even by way of third ones; they have no common scale."""


@dataclass(frozen=True)
class Standing:
    """One model's place. `strength` is in logits, with the mean of all models at 0; limits are None where unbounded.

    `rank` 1 is the best. `rank_low` to `rank_high` are the ranks that the comparisons leave open. `groups` are letters, of
    the sets of neighbours in the ranking in which no two models can be told apart; a model may stand in several.
    """

    model: str
    strength: float
    standard_error: float
    low: float | None
    high: float | None
    rank: int
    rank_low: int
    rank_high: int
    groups: tuple[str, ...]
    unbounded: Literal["above", "below"] | None


@dataclass(frozen=True)
class Ranking:
    """Standings, best first. `penalised` says that some strength had no finite maximum, see `bradley_terry.penalised`."""

    standings: tuple[Standing, ...]
    comparisons: int
    clusters: int
    level: float
    resamples: int
    penalised: bool


def rank_models(
    first: Sequence[str],
    second: Sequence[str],
    preferences: Sequence[float],
    roots: Sequence[Hashable],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Ranking:
    """The Bradley-Terry ranking of all models from n comparisons of two, each with a preference for the first in [0, 1].

    Whole clusters of prompts (`roots`) are drawn with replacement and the model is fitted anew to each resample. Limits are
    the replicates' quantiles (Efron 1979). Resamples become fewer where there are many clusters; the ranking says how many.

    Two models can be told apart where |difference| / its bootstrap standard error exceeds the quantile, over resamples, of
    the largest such ratio of any pair about its value (max-T, Romano & Wolf 2005), so that with probability `level` no pair
    is told apart by mistake. From these come the rank intervals (Mogstad, Romano, Shaikh & Wilhelm 2024): 1 + how many are
    told to be better, to m - how many are told to be worse. A bootstrap of the ranks themselves would fail near ties.

    Where the likelihood has no finite maximum, as for a model that won every comparison, all fits carry the penalty of
    `bradley_terry.penalised`, and that model's limit on the open side is None. Resamples without a maximum carry it too.

    Raises NotConnected for models that never met, TooFewPrompts for a single cluster, ValueError for columns that differ in
    length, a preference outside [0, 1], or fewer than two models.
    """
    values = np.asarray(preferences, dtype=np.float64)
    names = list(dict.fromkeys([*first, *second]))
    if not len(first) == len(second) == len(values) == len(roots):
        raise ValueError("columns differ in length")
    if len(names) < 2 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a ranking needs two models and preferences in [0, 1]")
    clusters = Clusters.of(roots)
    clusters.require_several()
    m, place = len(names), {name: number for number, name in enumerate(names)}
    winner, loser = (np.array([place[name] for name in side], dtype=np.intp) for side in (first, second))
    # A model against itself says nothing of strengths.
    kept = winner != loser
    cells, amounts = _cells(m, winner[kept], loser[kept], values[kept])
    wins: Floats = np.bincount(cells, amounts, m * m).reshape(m, m).astype(np.float64)
    _require_connection(names, wins)
    open_sides = unbounded(wins)
    separated = any(open_sides)
    strengths = bradley_terry(penalised(wins, wins) if separated else wins)

    resamples = min(resamples, max(FEWEST_RESAMPLES, DRAWN // max(clusters.count, 4 * m * m)))
    drawn = _drawn_wins(m, np.tile(clusters.index[kept], 2), clusters.count, cells, amounts, resamples, seed)
    loose = ~strongly_connected(drawn)
    drawn[loose] = penalised(drawn[loose], wins)
    replicates = bradley_terry(drawn)

    errors = replicates.std(axis=0, ddof=1)
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2], axis=0)
    order = np.argsort(-strengths, kind="stable")
    better = _told_apart(strengths, replicates, level)
    groups = _groups(better[np.ix_(order, order)])
    standings = []
    for rank, i in enumerate(map(int, order), 1):
        standings.append(
            Standing(
                model=names[i],
                strength=float(strengths[i]),
                standard_error=float(errors[i]),
                low=None if open_sides[i] == "below" else float(low[i]),
                high=None if open_sides[i] == "above" else float(high[i]),
                rank=rank,
                rank_low=1 + int(better[:, i].sum()),
                rank_high=m - int(better[i].sum()),
                groups=tuple(_letter(number) for number, (start, stop) in enumerate(groups, 1) if start < rank <= stop),
                unbounded=open_sides[i],
            )
        )
    return Ranking(tuple(standings), int(kept.sum()), clusters.count, level, resamples, separated)


def _cells(m: int, winner: Indices, loser: Indices, values: Floats) -> tuple[Indices, Floats]:
    """Every comparison as two entries of the flattened table of wins: the first's share of a win, and the second's."""
    return np.concatenate([winner * m + loser, loser * m + winner]), np.concatenate([values, 1 - values])


def _require_connection(names: Sequence[str], wins: Floats) -> None:
    group = components(wins)
    if group.max() > 0:
        parts = [
            ", ".join(sorted(n for n, g in zip(names, group, strict=True) if g == each)) for each in range(group.max() + 1)
        ]
        raise NotConnected(f"these models never met, not even by way of others: {' | '.join(parts)}")


def _drawn_wins(m: int, cluster: Indices, count: int, cells: Indices, amounts: Floats, resamples: int, seed: int) -> Floats:
    """The table of wins in each resample of whole clusters, (resamples, m, m)."""
    from scipy import sparse

    used, column = np.unique(cells, return_inverse=True)
    table: Any = sparse.csr_matrix((amounts, (column, cluster)), shape=(len(used), count))
    rng, size = np.random.default_rng(seed), max(1, 5_000_000 // count)
    drawn = np.zeros((resamples, m * m))
    for start in range(0, resamples, size):
        some = min(size, resamples - start)
        draws = rng.integers(0, count, (some, count), np.int32) + count * np.arange(some, dtype=np.int32)[:, None]
        often = np.bincount(draws.ravel(), minlength=some * count).reshape(some, count)
        drawn[start : start + some, used] = (table @ often.T.astype(np.float64)).T
    return drawn.reshape(resamples, m, m)


def _told_apart(strengths: Floats, replicates: Floats, level: float) -> np.ndarray:
    """Whether the row's model is told to be better than the column's, (m, m), all pairs at once at `level`."""
    m = len(strengths)
    rows, columns = np.triu_indices(m, 1)
    gaps = strengths[rows] - strengths[columns]
    moved = replicates[:, rows] - replicates[:, columns] - gaps
    errors = moved.std(axis=0, ddof=1)
    # A pair that no resample moves differs for certain, and takes no part in the largest ratio.
    moves = errors > ROUNDING * max(1.0, float(np.abs(gaps).max()))
    critical = float(np.quantile(np.abs(moved[:, moves] / errors[moves]).max(axis=1), level)) if moves.any() else 0.0
    apart = np.where(moves, np.abs(gaps) > critical * errors, np.abs(gaps) > ROUNDING)
    better = np.zeros((m, m), dtype=bool)
    better[rows, columns] = apart & (gaps > 0)
    better[columns, rows] = apart & (gaps < 0)
    return better


def _groups(better: np.ndarray) -> list[tuple[int, int]]:
    """The longest runs (start, stop) of the ranking, best first, in which no two models are told apart."""
    apart, runs, reach = better | better.T, [], 0
    for start in range(len(apart)):
        stop = start + 1
        while stop < len(apart) and not apart[start:stop, stop].any():
            stop += 1
        if stop > reach:
            runs.append((start, stop))
            reach = stop
    return runs


def _letter(number: int) -> str:
    """1 as a, 26 as z, 27 as aa."""
    text = ""
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def strength_estimates(ranking: Ranking, judge: str, suite: str, seed: int) -> list[Estimate]:
    """The strengths that are finite as estimates: `bradley-terry`, in logits from the mean of all models."""
    return [
        Estimate(
            model=each.model,
            metric="bradley-terry",
            judge=judge,
            suite=suite,
            value=each.strength,
            standard_error=each.standard_error,
            low=each.low,
            high=each.high,
            level=ranking.level,
            n=ranking.comparisons,
            clusters=ranking.clusters,
            method="percentile-penalised" if ranking.penalised else "percentile",
            unit="logits",
            seed=seed,
            resamples=ranking.resamples,
        )
        for each in ranking.standings
        if each.low is not None and each.high is not None
    ]
