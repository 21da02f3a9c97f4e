"""How long the answers are; judges tend to like long ones, so every win rate is read beside this."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness import Evidence, Measure, Metric, Observation

from .observations import sample_observations


class Length(Metric):
    """Length in characters, as in judgements, and in tokens, the stop token included. Neither direction is better."""

    name = "length"
    measures = (
        Measure(name="length", unit="characters per answer"),
        Measure(name="tokens", unit="tokens per answer"),
    )

    def observe(self, evidence: Evidence, config: Any) -> Iterator[Observation]:
        """Both lengths of each sample."""
        yield from sample_observations(evidence, "length", lambda sample: float(len(sample.answer)))
        yield from sample_observations(evidence, "tokens", lambda sample: float(sample.tokens))


__all__ = ["Length"]
