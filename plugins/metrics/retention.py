"""Whether alignment cost general ability: instructions whose keeping a program can decide."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness import Evidence, Measure, Metric, Observation, Sample, SuiteRow

from .instructions import follows, problem
from .observations import sample_observations
from .refusal import is_degenerate, is_refusal


class Retention(Metric):
    """Share of prompts whose answer passes every check of its suite row (strict, as in Zhou et al. 2023, arXiv:2311.07911).

    A refusal and a degenerate answer follow nothing, though an empty one would pass "no commas". Rows without checks are left
    out. It measures whether instructions of form are kept, not whether the answer is right or good.
    """

    name = "retention"
    measures = (Measure(name="instruction-following", unit="share of prompts", better="higher"),)

    def problem(self, row: SuiteRow) -> str | None:
        """A check of an unknown kind, or one whose parameters are wrong."""
        return problem(row)

    def observe(self, evidence: Evidence, config: Any) -> Iterable[Observation]:
        """1 where every check passes, else 0, on each row that has checks."""

        def value(sample: Sample) -> float | None:
            row = evidence.rows[sample.prompt_id]
            if not row.checks:
                return None
            answered = not is_degenerate(sample.answer) and not is_refusal(sample.answer)
            return float(answered and follows(sample.answer, row))

        return sample_observations(evidence, "instruction-following", value)


__all__ = ["Retention"]
