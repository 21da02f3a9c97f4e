"""SimPO as an aligner, brevity as a judge, and the share of complete answers as a metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

import harness

if TYPE_CHECKING:
    import torch


def simpo_loss(chosen: torch.Tensor, rejected: torch.Tensor, beta: float, gamma: float) -> torch.Tensor:
    """-log sigmoid(beta · (chosen - rejected) - gamma), one per pair (Meng et al. 2024, arXiv 2405.14734, equation 6).

    `chosen` and `rejected` (B,) are each answer's mean log-probability per token, in nats.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(beta * (chosen - rejected) - gamma)


class SimPO(harness.Aligner):
    """Length-normalised preference optimisation without a reference model."""

    name = "simpo"
    takes: ClassVar[Mapping[str, str]] = {"init": "model", "data": "preferences"}
    gives = "model"

    class Config(harness.TrainingConfig):
        """Options of the loss."""

        beta: float = Field(default=2.0, gt=0, description="how sharply the margin is weighed")
        gamma: float = Field(default=1.0, ge=0, description="the margin to reach, in nats per token times beta")

    def run(self, config: Config, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train on the pairs. Raises DataError when no pair fits into `max_length`."""
        from harness.engine.chat import tokenize_preferences
        from harness.engine.learning import PairPreference
        from harness.engine.models import load_policy, save_model, use_threads
        from harness.engine.pairs import choose_layout, pair_logprobs
        from harness.engine.preference_losses import PairLogprobs
        from harness.engine.training import train

        def loss(logprobs: PairLogprobs) -> torch.Tensor:
            return simpo_loss(*logprobs.averages(), config.beta, config.gamma)

        use_threads(context.compute)
        model, tokenizer = load_policy(inputs["init"].path, context.compute, disable_dropout=True)
        pairs, _ = tokenize_preferences(inputs["data"].rows, tokenizer, config.max_length)
        if not pairs:
            raise harness.DataError(f"stage {context.name!r}: no pair fits into max_length: {config.max_length}; raise it")
        pad_id, compute = tokenizer.pad_token_id, context.compute
        layout = choose_layout(model, pair_logprobs, pad_id, compute, config.max_length)
        train(model, PairPreference(model, pairs, layout, pad_id, compute, loss, config.beta), config, context)
        save_model(model, tokenizer, context.output)


class Brevity(harness.ScoringJudge):
    """Prefers the answer with fewer words."""

    name = "brevity"

    def score(
        self,
        prompts: Sequence[harness.Prompt],
        answers: Sequence[str],
        config: Any,
        inputs: Mapping[str, harness.Artifact],
        context: harness.JudgeContext,
    ) -> list[float | None]:
        """Minus the number of words; None for an empty answer, which is short for the wrong reason."""
        return [-float(len(answer.split())) if answer.strip() else None for answer in answers]


class Complete(harness.Metric):
    """Whether an answer stopped by itself, and not because it had reached its longest length."""

    name = "complete"
    measures = (harness.Measure(name="complete", unit="share of answers", better="higher"),)

    def observe(self, evidence: harness.Evidence, config: Any) -> Iterator[harness.Observation]:
        """One observation per sample, beside the baseline's on the same prompt."""
        baseline = {sample.prompt_id: float(sample.finish == "stop") for sample in evidence.baseline_samples}
        for sample in evidence.samples:
            yield harness.Observation(
                prompt_id=sample.prompt_id,
                root=evidence.root(sample.prompt_id),
                suite=evidence.suite,
                model=evidence.model,
                metric="complete",
                value=float(sample.finish == "stop"),
                baseline_value=baseline.get(sample.prompt_id),
            )


def worse_than_a_coin(readings: harness.Readings) -> harness.Finding | None:
    """Whether the last five logged accuracies, in the mean, are no better than a coin's."""
    recent = harness.spread(readings.last("rewards/accuracies", 5))
    if recent.high >= 0.5:
        return None
    return harness.Finding(recent.mean, f"it prefers the chosen answer in {recent.mean:.0%} of its training pairs")


@harness.hookimpl
def harness_health_rules() -> list[harness.Rule]:
    return [
        harness.Rule(
            aligner="simpo",
            name="accuracy",
            look=worse_than_a_coin,
            scalars=("rewards/accuracies",),
            needs=5,
            after=0.5,
            threshold="the 95 % interval of rewards/accuracies, mean of the last 5 logged values, reaches 50 %",
            advice="Check that chosen and rejected are not swapped.",
        )
    ]


@harness.hookimpl
def harness_aligners() -> list[type[harness.Aligner]]:
    return [SimPO]


@harness.hookimpl
def harness_judges() -> list[type[harness.Judge]]:
    return [Brevity]


@harness.hookimpl
def harness_metrics() -> list[type[harness.Metric]]:
    return [Complete]
