"""Best-of-n sampling: what picking the best of n answers is worth, and how far it moves the policy."""

from __future__ import annotations

import math

import numpy as np

from .clusters import Floats


def best_of_n(scores: Floats, values: Floats | None = None) -> Floats:
    """Expected value of the answer that scores highest among n, for every n up to N: (..., N) -> (..., N).

    `scores` holds N independent answers' scores, `values` what each is worth by another measure (the scores themselves,
    where left out). With answers in ascending order of score the mean over all subsets of n is
    Σ_i C(i - 1, n - 1) / C(N, n) · value_(i): unbiased, and steadier than one subset (Nakano et al. 2021, arXiv
    2112.09332, the appendix on best-of-n). Answers with equal scores share their mean value. Raises ValueError for shapes that differ.
    """
    scores = np.asarray(scores, dtype=np.float64)
    values = scores if values is None else np.asarray(values, dtype=np.float64)
    if values.shape != scores.shape:
        raise ValueError(f"values of shape {values.shape} for scores of shape {scores.shape}")
    order = np.argsort(scores, axis=-1, kind="stable")
    ascending, worth = np.take_along_axis(scores, order, axis=-1), np.take_along_axis(values, order, axis=-1)
    return _share_ties(ascending, worth) @ _weights(scores.shape[-1]).T


def best_of_n_kl(n: int) -> float:
    """log n - (n - 1) / n nats: an upper bound on KL(best of n || the policy), not its value.

    Beirami et al. (2024, arXiv 2401.01879): equality only where no two answers can coincide; for a policy that
    often gives the same answer the KL is far smaller. Raises ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"best of {n}")
    return math.log(n) - (n - 1) / n


def _weights(count: int) -> Floats:
    """How likely the i-th lowest of N is the best of n drawn without replacement, (n, i)."""
    weights = np.zeros((count, count))
    for n in range(1, count + 1):
        total = math.comb(count, n)
        # Integer division of integers: the binomials of large N are beyond floating point, their ratio is not.
        weights[n - 1, n - 1 :] = [math.comb(i, n - 1) / total for i in range(n - 1, count)]
    return weights


def _share_ties(ascending: Floats, worth: Floats) -> Floats:
    """Values in order of score, each replaced by the mean over the answers that score the same."""
    flat, shared = ascending.reshape(-1, ascending.shape[-1]), worth.reshape(-1, worth.shape[-1]).copy()
    for row, of in zip(flat, shared, strict=True):
        starts = np.flatnonzero(np.diff(row, prepend=-np.inf) != 0)
        if len(starts) < len(row):
            sizes = np.diff(starts, append=len(row))
            of[:] = np.repeat(np.add.reduceat(of, starts) / sizes, sizes)
    return shared.reshape(worth.shape)
