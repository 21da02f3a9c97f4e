"""What a logged curve did over training: a description of one run's log, not an estimate over prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance

Curve = Sequence[tuple[int, float]]
SHORTEST = 6


@dataclass(frozen=True)
class Trend:
    """The change from the first to the last third of a curve, with an interval from the scatter within the thirds.

    It takes logged values as independent; they are not quite, so it is a little too narrow.
    """

    first: float
    last: float
    low: float
    high: float
    n: int

    @property
    def change(self) -> float:
        """Mean of the last third minus mean of the first."""
        return self.last - self.first


def trend(curve: Curve, level: float = 0.95) -> Trend | None:
    """The trend of a curve of at least six values, else None."""
    if len(curve) < SHORTEST:
        return None
    values = [value for _, value in curve]
    third = len(values) // 3
    first, last = values[:third], values[-third:]
    error = ((variance(first) + variance(last)) / third) ** 0.5
    reach = NormalDist().inv_cdf((1 + level) / 2) * error
    change = fmean(last) - fmean(first)
    return Trend(fmean(first), fmean(last), change - reach, change + reach, len(values))


def find(series: Mapping[str, Curve], *patterns: str) -> Curve | None:
    """The first curve whose name matches a pattern in full, case aside; the patterns in order of preference."""
    for pattern in patterns:
        for name, curve in series.items():
            if re.fullmatch(pattern, name, re.IGNORECASE):
                return curve
    return None


def reward_curve(series: Mapping[str, Curve]) -> Curve | None:
    """The policy's mean reward during training, under any of the names in use, before a KL penalty if both were logged."""
    return find(
        series, "score", "reward", "mean_reward", "reward_mean", "(objective|env|train|rollout)/(reward|score|scores)"
    )
