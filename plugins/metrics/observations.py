"""From one value per prompt to observations, paired with the baseline's value on the same prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from harness import Evidence, Observation, Sample, Score


def sample_values(samples: Iterable[Sample], value: Callable[[Sample], float | None]) -> dict[str, float]:
    """Prompt id to the value of its sample; samples for which `value` gives None are left out."""
    return {sample.prompt_id: number for sample in samples if (number := value(sample)) is not None}


def score_values(scores: Iterable[Score]) -> dict[str, float]:
    """Prompt id to its score; unscored samples are left out."""
    return {score.prompt_id: score.score for score in scores if score.score is not None}


def observations(
    evidence: Evidence, measure: str, values: Mapping[str, float], baseline: Mapping[str, float] | None = None
) -> Iterator[Observation]:
    """One observation of `measure` per prompt of `values`, with the baseline's value where it has one."""
    for prompt_id, value in values.items():
        yield Observation(
            prompt_id=prompt_id,
            root=evidence.root(prompt_id),
            suite=evidence.suite,
            model=evidence.model,
            metric=measure,
            judge=evidence.judge,
            value=value,
            baseline_value=baseline.get(prompt_id) if baseline is not None else None,
        )


def sample_observations(evidence: Evidence, measure: str, value: Callable[[Sample], float | None]) -> Iterator[Observation]:
    """Observations of a value that depends on one sample alone, for the model and for its baseline."""
    yield from observations(
        evidence,
        measure,
        sample_values(evidence.samples, value),
        sample_values(evidence.baseline_samples, value),
    )


__all__ = ["observations", "sample_observations", "sample_values", "score_values"]
