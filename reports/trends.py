"""Which of the curves that a stage logged is the one that a sentence is about."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.trends import Curve


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
