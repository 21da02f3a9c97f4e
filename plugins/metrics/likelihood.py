"""How likely a model finds answers that people chose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness import Evidence, Likelihood, Measure, Metric, Observation

from .observations import observations


class ChosenLikelihood(Metric):
    """Log-probability of held-out chosen answers under a model, in nats per token of each answer, the stop token included.

    An answer's sum is divided by its tokens before the mean is taken, so a short answer weighs as much as a long one. Models
    with one tokenizer can be compared. A fall says that a model has moved away from how people write, whether or not its own
    answers got better: DPO is known to lower it while it wins (Pal et al. 2024, arXiv:2402.13228).
    """

    name = "likelihood"
    scope = "likelihoods"
    measures = (Measure(name="chosen-loglik", unit="nats per token", better="higher"),)

    def observe(self, evidence: Evidence, config: Any) -> Iterable[Observation]:
        """One value per chosen answer, never above 0."""
        values, baseline = _per_token(evidence.likelihoods), _per_token(evidence.baseline_likelihoods)
        return observations(evidence, "chosen-loglik", values, baseline)


def _per_token(likelihoods: Sequence[Likelihood]) -> dict[str, float]:
    return {each.prompt_id: each.logprob / each.tokens for each in likelihoods}


__all__ = ["ChosenLikelihood"]
