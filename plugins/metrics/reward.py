"""The number that a scoring judge gives to each answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness import Evidence, Measure, Metric, Observation

from .observations import observations, score_values


class Reward(Metric):
    """Mean score. Only differences between models under one judge mean anything: a judge's zero is arbitrary."""

    name = "reward"
    scope = "scores"
    measures = (Measure(name="reward", unit="judge's score", better="higher"),)

    def observe(self, evidence: Evidence, config: Any) -> Iterable[Observation]:
        """Each score, with the baseline's score on the same prompt; unscored answers are left out."""
        return observations(evidence, "reward", score_values(evidence.scores), score_values(evidence.baseline_scores))


__all__ = ["Reward"]
