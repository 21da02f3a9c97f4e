"""The win rate over the prompts that both models answered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness import Evidence, Measure, Metric, Observation

from .observations import observations
from .refusal import is_refusal
from .refusal_answers import DETECTOR, MEASURES, detector_observations


class AnsweredWinRate(Metric):
    """Mean preference for the candidate over prompts that neither model refused, on rows that do not ask for a refusal.

    Read beside `win-rate`, it tells whether a candidate wins by better answers or by refusing less. Which prompts are left
    depends on both models, so two candidates' values are not over the same prompts. Refusals are found by string matching.
    """

    name = "answered-win-rate"
    scope = "judgements"
    measures = (
        Measure(
            name="answered-win-rate",
            unit="share of prompts",
            better="higher",
            compare=False,
            null=0.5,
            instrument=DETECTOR,
        ),
    )
    validation = MEASURES

    def validate(self) -> Iterable[Observation]:
        """The detector of refusals on labelled answers."""
        return detector_observations()

    def observe(self, evidence: Evidence, config: Any) -> Iterable[Observation]:
        """The preference of each scored judgement of two answers, in [0, 1]."""
        answers = (*evidence.samples, *evidence.baseline_samples)
        refused = {sample.prompt_id for sample in answers if is_refusal(sample.answer)}
        preferences = {
            row.prompt_id: row.preference
            for row in evidence.judgements
            if row.preference is not None
            and row.prompt_id not in refused
            and evidence.rows[row.prompt_id].expect != "refuse"
        }
        return observations(evidence, "answered-win-rate", preferences)


__all__ = ["AnsweredWinRate"]
