"""p-values adjusted for how many there are: below a level α, the hypotheses whose adjusted p-value is at most α fall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .clusters import Floats


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: with probability 1 - α none of those at most α is a mistake (Holm 1979).

    The i-th smallest of m becomes max over j <= i of min(1, (m - j + 1) p_(j)). Valid whatever the dependence, so for
    comparisons that share a baseline too. In the order given. Raises ValueError for a number outside [0, 1].
    """
    order, ascending = _ascending(p_values)
    m = len(ascending)
    adjusted = np.maximum.accumulate(np.minimum(1.0, (m - np.arange(m)) * ascending))
    return _back(order, adjusted)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's adjustment: of those at most α, on average a share α at most is a mistake (1995).

    The i-th smallest of m becomes min over j >= i of min(1, m p_(j) / j). For looking through many slices; valid for
    independent or positively dependent p-values. In the order given. Raises ValueError for a number outside [0, 1].
    """
    order, ascending = _ascending(p_values)
    m = len(ascending)
    scaled = np.minimum(1.0, m * ascending / np.arange(1, m + 1))
    return _back(order, np.minimum.accumulate(scaled[::-1])[::-1])


def _ascending(p_values: Sequence[float]) -> tuple[np.ndarray, Floats]:
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a p-value is outside [0, 1]")
    order = np.argsort(values, kind="stable")
    return order, values[order]


def _back(order: np.ndarray, adjusted: Floats) -> list[float]:
    given = np.empty(len(order))
    given[order] = adjusted
    return [float(each) for each in given]
