"""How far a model has moved from its reference, in nats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness import Evidence, Measure, Metric, Observation, Sample

from .observations import sample_observations


class KL(Metric):
    """KL(model || its reference) along the model's own answers, and the estimators that training logs usually show.

    `kl` sums the exact divergence of the next-token distributions over an answer's positions; its mean over sampled answers
    is an unbiased estimate of the sequence KL. `kl-per-token` divides each answer's `kl` by its tokens before the mean is
    taken, so a short answer weighs as much as a long one. `kl-k1` and `kl-k3` are Schulman's estimators
    (http://joschu.net/blog/kl-approx.html), summed over the answer; an answer's `kl-k1` may be negative.

    The best of n answers, chosen by a reward model, has no such divergence along one answer. `kl-bound` is its upper bound instead,
    KL(best of n || the model that answers) <= log n - (n - 1)/n (Beirami et al. 2024, arXiv:2401.01879).

    No direction is better: KL is what a gain in reward cost, and a model that never moved has none of either. It is not
    compared with the baseline, whose KL may be measured from another reference.
    """

    name = "kl"
    needs_plain_sampling = True
    measures = (
        Measure(name="kl", unit="nats per answer", compare=False),
        Measure(name="kl-per-token", unit="nats per token", compare=False),
        Measure(name="kl-k1", unit="nats per answer", compare=False),
        Measure(name="kl-k3", unit="nats per answer", compare=False),
        Measure(name="kl-bound", unit="nats per answer", compare=False),
    )

    def observe(self, evidence: Evidence, config: Any) -> Iterator[Observation]:
        """The four values of each sample that has a reference, and the bound of each that is the best of several."""
        yield from sample_observations(evidence, "kl", lambda sample: sample.kl)
        yield from sample_observations(evidence, "kl-per-token", _per_token)
        yield from sample_observations(evidence, "kl-k1", _k1)
        yield from sample_observations(evidence, "kl-k3", lambda sample: sample.kl_k3)
        yield from sample_observations(evidence, "kl-bound", _bound)


def _per_token(sample: Sample) -> float | None:
    return None if sample.kl is None or sample.tokens == 0 else sample.kl / sample.tokens


def _bound(sample: Sample) -> float | None:
    from harness.stats import best_of_n_kl

    return None if sample.best_of is None else best_of_n_kl(sample.best_of)


def _k1(sample: Sample) -> float | None:
    return None if sample.ref_logprob is None else sample.logprob - sample.ref_logprob


__all__ = ["KL"]
