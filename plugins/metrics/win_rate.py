"""How often a judge prefers the candidate's answer to the baseline's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness import Evidence, Measure, Metric, Observation

from .observations import observations


class WinRate(Metric):
    """Mean preference for the candidate: 1 a win, 0.5 a tie, 0 a loss. Unscored judgements are left out, never ties."""

    name = "win-rate"
    scope = "judgements"
    measures = (Measure(name="win-rate", unit="share of prompts", better="higher", compare=False, null=0.5),)

    def observe(self, evidence: Evidence, config: Any) -> Iterable[Observation]:
        """The preference of each scored judgement, in [0, 1]."""
        preferences = {row.prompt_id: row.preference for row in evidence.judgements if row.preference is not None}
        return observations(evidence, "win-rate", preferences)


__all__ = ["WinRate"]
