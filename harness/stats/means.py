"""Student's interval for a mean: for clusters too few to resample."""

from __future__ import annotations

import math

from .clusters import Clusters, Floats, constant, standard_error
from .intervals import Interval, check_level, exact, method_name, student

FEW_CLUSTERS = 10
"""Below so many clusters a bootstrap is too narrow whatever its level: it cannot leave the range of what it draws from."""


ANY = (-math.inf, math.inf)
DIFFERENCE_OF_SHARES = (-1.0, 1.0)


def student_t(values: Floats, clusters: Clusters, level: float = 0.95, bounds: tuple[float, float] = ANY) -> Interval:
    """mean ± t_{G-1} · cluster-robust standard error of `values` (n,) (Student 1908; Cameron & Miller 2015, section VI.D).

    Right for normal cluster means, and for few clusters less wrong than a bootstrap. Limits end at the `bounds` that the mean
    cannot leave, such as -1 and 1 for a difference of shares. `exact-constant` where no cluster
    differs from another. Raises TooFewPrompts for a single cluster and ValueError unless 0 < level < 1.
    """
    check_level(level)
    clusters.require_several()
    if constant(clusters.means(values)):
        return exact(float(values[0] if constant(values) else values.mean()))
    value, error = float(values.mean()), standard_error(values, clusters)
    half = student(level, clusters.count - 1) * error
    low, high = max(value - half, bounds[0]), min(value + half, bounds[1])
    return Interval(value, low, high, error, method_name("student-t", clusters))
