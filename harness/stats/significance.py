"""The exact sign test."""

from __future__ import annotations

import numpy as np

from .clusters import ROUNDING, Clusters, Floats


def sign_test(values: Floats, clusters: Clusters, null: float = 0.0) -> float:
    """Two-sided p-value of "as many lie above `null` as below" for `values` (n,) (Dixon & Mood 1946).

    Exact binomial; ties are dropped, and all ties give 1. One sign for each cluster, that of its mean, because siblings
    are not independent.
    """
    from scipy import stats

    distances = values - null
    means = clusters.means(distances)
    # Siblings that cancel leave a rounding error, which is a tie and not a sign.
    signs = np.sign(np.where(np.abs(means) <= ROUNDING * np.abs(distances).max(), 0.0, means))
    above, below = int((signs > 0).sum()), int((signs < 0).sum())
    return float(stats.binomtest(above, above + below).pvalue) if above + below else 1.0
