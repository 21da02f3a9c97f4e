"""How often a judge would prefer the candidate's answer if it were as long as the baseline's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from harness import Evidence, Measure, Metric, Observation

if TYPE_CHECKING:
    import numpy as np


def _win_rate(*columns: np.ndarray) -> np.ndarray:
    from harness.stats import length_controlled_win_rate

    return length_controlled_win_rate(*columns)


def _gap(*columns: np.ndarray) -> np.ndarray:
    from harness.stats import length_control_gap

    return length_control_gap(*columns)


class LengthControlledWinRate(Metric):
    """The win rate that a logistic regression predicts for answers of equal length (Dubois et al. 2024, arXiv 2404.04475).

    `length-control-gap` is what is left of it when the raw win rate over the same judgements is taken away. Both are fitted
    anew to every resample, so that their intervals hold the uncertainty of the fit too.
    """

    name = "length-controlled-win-rate"
    scope = "judgements"
    measures = (
        Measure(
            name="length-controlled-win-rate",
            unit="share of prompts",
            better="higher",
            compare=False,
            null=0.5,
            statistic=_win_rate,
        ),
        Measure(name="length-control-gap", unit="share of prompts", compare=False, null=0.0, statistic=_gap),
    )

    def observe(self, evidence: Evidence, config: Any) -> Iterator[Observation]:
        """The preference of each scored judgement, with the candidate's length less the baseline's as covariate."""
        for row in evidence.judgements:
            if row.preference is None:
                continue
            for measure in self.measures:
                yield Observation(
                    prompt_id=row.prompt_id,
                    root=evidence.root(row.prompt_id),
                    suite=evidence.suite,
                    model=evidence.model,
                    metric=measure.name,
                    judge=evidence.judge,
                    value=row.preference,
                    covariates=(row.candidate_length - row.baseline_length,),
                )


__all__ = ["LengthControlledWinRate"]
