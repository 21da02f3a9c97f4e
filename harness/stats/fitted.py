"""Statistics of two columns, vectorised over leading axes so that a bootstrap refits them for thousands of resamples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .clusters import Floats


def expected_calibration_error(probabilities: Floats, outcomes: Floats, bins: int = 10) -> Floats:
    """Expected calibration error over equal-width bins: (..., n) and (..., n) -> (...).

    Σ_b |Σ_{i in b} (outcome_i - probability_i)| / n (Naeini, Cooper & Hauskrecht 2015; Guo et al. 2017, equation 3). A
    probability of 1 belongs to the last bin. Positive on average even for a calibrated model, the more so the fewer the
    rows. Raises ValueError for a probability outside [0, 1].
    """
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise ValueError("a probability is outside [0, 1]")
    *leading, n = probabilities.shape
    gaps = (outcomes - probabilities).reshape(-1, n)
    which = np.minimum((probabilities * bins).astype(np.intp), bins - 1).reshape(-1, n)
    cells = which + bins * np.arange(len(gaps))[:, None]
    sums = np.bincount(cells.ravel(), weights=gaps.ravel(), minlength=bins * len(gaps)).reshape(len(gaps), bins)
    return np.asarray(np.abs(sums).sum(axis=-1) / n).reshape(leading)


def pearson(x: Floats, y: Floats) -> Floats:
    """Pearson's correlation: (..., n) and (..., n) -> (...); NaN where a column is constant."""
    x = x - x.mean(axis=-1, keepdims=True)
    y = y - y.mean(axis=-1, keepdims=True)
    scale = np.sqrt(np.square(x).sum(axis=-1) * np.square(y).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(scale > 0, (x * y).sum(axis=-1) / scale, np.nan))


def pearson_of_pairs(x: Floats, y: Floats) -> Floats:
    """Pearson's correlation of two differences between the members of pairs: (..., n) and (..., n) -> (...).

    Σxy / √(Σx² Σy²), which is Pearson's correlation over both orders of every pair: which member comes first has no part in
    it. NaN where a column is all 0.
    """
    scale = np.sqrt(np.square(x).sum(axis=-1) * np.square(y).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(scale > 0, (x * y).sum(axis=-1) / scale, np.nan))


def spearman(x: Floats, y: Floats) -> Floats:
    """Spearman's rank correlation: (..., n) and (..., n) -> (...). Ties share their mean rank; a constant is NaN."""
    from scipy import stats

    return pearson(stats.rankdata(x, axis=-1), stats.rankdata(y, axis=-1))
