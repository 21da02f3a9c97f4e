"""The Bradley-Terry model: one strength for each model, fitted to who beat whom, and whether such strengths exist."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .clusters import Floats, Indices

PENALTY = 0.5
"""Wins added each way to every pair that met, where the maximum of the likelihood lies at infinity."""

ITERATIONS = 100
TOLERANCE = 1e-10


def bradley_terry(wins: Floats) -> Floats:
    """Strengths in logits, (..., m), from `wins` (..., m, m): how often the row's model beat the column's.

    P(i beats j) = 1 / (1 + exp(s_j - s_i)) (Bradley & Terry 1952), by maximum likelihood; the strengths sum to 0. Counts may
    be fractions: a tie is half a win each way and a preference of 0.8 is 0.8 of one, which makes the fit a quasi-likelihood
    whose estimating equations are "expected score = observed score" (Ford 1957), consistent for the mean preference. The
    diagonal is not read. Where `strongly_connected` is false there is no finite maximum and the result means nothing; add
    PENALTY first. Newton's method with steps of at most 2 logits.
    """
    m = wins.shape[-1]
    wins = np.where(np.eye(m, dtype=bool), 0.0, wins)
    met = wins + np.swapaxes(wins, -1, -2)
    strengths = np.zeros(wins.shape[:-1])
    scores = wins.sum(axis=-1)
    for _ in range(ITERATIONS):
        expected = met / (1 + np.exp(strengths[..., None, :] - strengths[..., :, None]))
        information = expected * (1 - expected / np.where(met > 0, met, 1))
        # The strengths are determined but for their sum; 1/m everywhere fixes it and leaves the rest as it is.
        curvature = information.sum(axis=-1)[..., None] * np.eye(m) - information + 1 / m
        step = np.linalg.solve(curvature, (scores - expected.sum(axis=-1))[..., None])[..., 0]
        step -= step.mean(axis=-1, keepdims=True)
        largest = np.abs(step).max(axis=-1, keepdims=True)
        strengths = strengths + step * np.minimum(1, 2 / np.maximum(largest, TOLERANCE))
        if largest.max() < TOLERANCE:
            break
    return np.asarray(strengths)


def penalised(wins: Floats, met: Floats) -> Floats:
    """`wins` (..., m, m) with PENALTY wins more each way for every pair of `met` (m, m) that met at all.

    One tie more for each pair: strengths become finite where a model won everything. With n comparisons of a pair, all won,
    the difference that is reported is log(2n + 1).
    """
    return wins + PENALTY * (met + met.T > 0)


def components(wins: Floats) -> Indices:
    """Which group each of m models belongs to, (m,), so that models of different groups never met, not even by others."""
    from scipy.sparse.csgraph import connected_components

    return np.asarray(connected_components(wins > 0, directed=True, connection="weak")[1])


def strongly_connected(wins: Floats) -> np.ndarray:
    """Whether from each model every other is reached by wins, (..., m, m) -> (...).

    Ford's condition (1957): however the models are split in two groups, some model of each beat one of the other. Exactly
    then the likelihood has one finite maximum.
    """
    return np.asarray(_reached(wins).all(axis=(-1, -2)))


def unbounded(wins: Floats) -> list[Literal["above", "below"] | None]:
    """For each of m connected models, on which side its strength has no finite maximum, None where it has one.

    Models that reach each other by wins form a group. A group that nobody outside ever beat is unbounded above, one that
    never beat anybody outside unbounded below; one in between has None, though its distance from those is not finite.
    """
    reached = _reached(wins)
    if reached.all():
        return [None] * len(wins)
    one_way = reached & ~reached.T
    return ["above" if not one_way[:, i].any() else "below" if not one_way[i].any() else None for i in range(len(wins))]


def _reached(wins: Floats) -> np.ndarray:
    """Whether the row's model reaches the column's by wins, itself included, (..., m, m)."""
    m = wins.shape[-1]
    reached = (wins > 0) | np.eye(m, dtype=bool)
    for _ in range(max(1, (m - 1).bit_length())):
        reached = (reached.astype(np.float32) @ reached.astype(np.float32)) > 0
    return np.asarray(reached)
