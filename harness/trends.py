"""What a logged curve did over training: a description of one run's log, not an estimate over prompts.

Logged values are taken as independent. They are not quite, so the intervals are a little too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import cos, pi, sin, tan
from statistics import NormalDist, fmean, variance

Curve = Sequence[tuple[int, float]]
SHORTEST = 6
SERIES_UP_TO = 30
"""Degrees of freedom up to which Student's t is computed from its exact distribution."""


@dataclass(frozen=True)
class Spread:
    """The mean of some logged values, and its interval from their own scatter."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Trend:
    """The change from the first to the last third of a curve, with an interval from the scatter within the thirds."""

    first: float
    last: float
    low: float
    high: float
    n: int

    @property
    def change(self) -> float:
        """Mean of the last third minus mean of the first."""
        return self.last - self.first


@cache
def student(level: float, degrees: int) -> float:
    """The two-sided critical value of Student's t: exact up to 30 degrees of freedom, then within 0.01 % at a level of 95 %.

    Abramowitz & Stegun (1964): the inverse of 26.7.3 and 26.7.4 by bisection, and the expansion 26.7.5 to its second term.
    Neither needs SciPy, whose import costs more than a run that finds everything in its store.
    """
    if degrees <= SERIES_UP_TO:
        low, high = 0.0, pi / 2
        while low < (angle := (low + high) / 2) < high:
            low, high = (angle, high) if _coverage(angle, degrees) < level else (low, angle)
        return float(degrees**0.5 * tan(low))
    z = NormalDist().inv_cdf((1 + level) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return float(z + first / degrees + second / degrees**2)


def _coverage(angle: float, degrees: int) -> float:
    """The probability that Student's |t| is at most √degrees · tan(angle)."""
    odd = degrees % 2
    term = sin(angle) * cos(angle) if odd else sin(angle)
    total = 0.0
    for step in range(degrees // 2):
        total += term
        term *= cos(angle) ** 2 * (2 * step + 1 + odd) / (2 * step + 2 + odd)
    return 2 / pi * (angle + total) if odd else total


def spread(values: Sequence[float], level: float = 0.95) -> Spread:
    """The mean of at least two values with Student's interval. Raises statistics.StatisticsError for fewer."""
    mean = fmean(values)
    reach = student(level, len(values) - 1) * (variance(values) / len(values)) ** 0.5
    return Spread(mean, mean - reach, mean + reach)


def trend(curve: Curve, level: float = 0.95) -> Trend | None:
    """The trend of a curve of at least six values, else None."""
    if len(curve) < SHORTEST:
        return None
    values = [value for _, value in curve]
    third = len(values) // 3
    first, last = values[:third], values[-third:]
    error = ((variance(first) + variance(last)) / third) ** 0.5
    reach = student(level, 2 * (third - 1)) * error
    change = fmean(last) - fmean(first)
    return Trend(fmean(first), fmean(last), change - reach, change + reach, len(values))


def residual_deviation(values: Sequence[float]) -> float:
    """The standard deviation of at least three values around the straight line through them (least squares)."""
    n = len(values)
    steps = [place - (n - 1) / 2 for place in range(n)]
    slope = sum(step * value for step, value in zip(steps, values, strict=True)) / sum(step * step for step in steps)
    mean = fmean(values)
    squares = (value - mean - slope * step for step, value in zip(steps, values, strict=True))
    return float((sum(rest * rest for rest in squares) / (n - 2)) ** 0.5)


def turns(values: Sequence[float]) -> int:
    """How often a series changes its direction; a plateau is no turn."""
    moves = [after - before for before, after in pairwise(values) if after != before]
    return sum((before > 0) != (after > 0) for before, after in pairwise(moves))
