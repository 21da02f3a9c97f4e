"""Signs that a model has collapsed: loops, empty answers, one answer for everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from harness import Evidence, Measure, Metric, Observation, Sample

from .ngrams import distinct_share, repeated_share
from .observations import observations, sample_observations


class Diversity(Metric):
    """Diversity within each answer, and whether other prompts got the same answer.

    All values are per answer. `distinct-answers` counts duplicates among the observed answers once, here, and not in the
    bootstrap, where a prompt that is drawn twice would look like a model that repeats itself. Short right answers ("yes")
    may coincide: compare it with the baseline's.
    """

    name = "diversity"
    measures = (
        Measure(name="distinct-2", unit="distinct bigrams per bigram", better="higher"),
        Measure(name="repetition", unit="share of 4-grams", better="lower"),
        Measure(name="empty", unit="share of answers", better="lower"),
        Measure(name="distinct-answers", unit="share of answers", better="higher"),
    )

    def observe(self, evidence: Evidence, config: Any) -> Iterator[Observation]:
        """The four values of each sample; one that is too short to have an n-gram has none of that measure."""
        yield from sample_observations(evidence, "distinct-2", lambda sample: distinct_share(sample.answer, 2))
        yield from sample_observations(evidence, "repetition", lambda sample: repeated_share(sample.answer, 4))
        yield from sample_observations(evidence, "empty", lambda sample: float(not sample.answer.strip()))
        yield from observations(
            evidence, "distinct-answers", _unshared(evidence.samples), _unshared(evidence.baseline_samples)
        )


def _unshared(samples: Sequence[Sample]) -> dict[str, float]:
    """1 where no other prompt got the same answer, 0 where one did."""
    counts = Counter(sample.answer.strip() for sample in samples)
    return {sample.prompt_id: float(counts[sample.answer.strip()] == 1) for sample in samples}


__all__ = ["Diversity"]
