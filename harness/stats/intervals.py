"""What an interval is, and what its makers share."""

from __future__ import annotations

from dataclasses import dataclass

from .clusters import Clusters


@dataclass(frozen=True)
class Interval:
    """A value with its interval, its standard error (None where the sample cannot tell) and the method.

    `resamples` is how many a bootstrap really made; None where none was made.
    """

    value: float
    low: float
    high: float
    standard_error: float | None
    method: str
    resamples: int | None = None


def exact(value: float) -> Interval:
    """The interval of a sample in which nothing varies."""
    return Interval(value, value, value, 0.0, "exact-constant")


def method_name(name: str, clusters: Clusters) -> str:
    """The method's name, with `-clustered` where prompts share roots."""
    return name if clusters.count == clusters.n else f"{name}-clustered"


def student(level: float, freedom: float) -> float:
    """The two-sided critical value of Student's t."""
    from scipy import stats

    return float(stats.t.ppf((1 + level) / 2, freedom))


def check_level(level: float) -> None:
    """Raise ValueError unless 0 < level < 1."""
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1")
