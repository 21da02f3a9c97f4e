"""SimPO as an aligner, brevity as a judge, and the share of complete answers as a metric."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

import harness

if TYPE_CHECKING:
    import torch


def simpo_loss(chosen: torch.Tensor, rejected: torch.Tensor, beta: float, gamma: float) -> torch.Tensor:
    """-log sigmoid(beta · (chosen - rejected) - gamma), averaged (Meng et al. 2024, arXiv 2405.14734, equation 6).

    `chosen` and `rejected` (B,) are each answer's mean log-probability per token, in nats.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(beta * (chosen - rejected) - gamma).mean()


class SimPO(harness.Aligner):
    """Length-normalised preference optimisation without a reference model."""

    name = "simpo"
    takes: ClassVar[Mapping[str, str]] = {"init": "model", "data": "preferences"}
    gives = "model"

    class Config(harness.AlignerConfig):
        """Options of the loss."""

        beta: float = Field(default=2.0, gt=0, description="how sharply the margin is weighed")
        gamma: float = Field(default=1.0, ge=0, description="the margin to reach, in nats per token times beta")

        @model_validator(mode="after")
        def _only_what_it_uses(self) -> Self:
            if self.args or self.gradient_accumulation_steps != 1:
                raise ValueError("simpo takes neither `args` nor `gradient_accumulation_steps`; leave them out")
            return self

    def run(self, config: Config, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train on the pairs. Raises DataError when no pair fits into `max_length`."""
        import torch
        from transformers import get_scheduler

        from harness.engine.chat import tokenize_preferences
        from harness.engine.likelihood import TokenSequence, answer_logits, chosen_logprobs, collate
        from harness.engine.models import autocast, load_policy, save_model, seed_everything, use_threads

        use_threads(context.compute)
        seed_everything(context.seed)
        model, tokenizer = load_policy(inputs["init"].path, context.compute)
        pairs, _ = tokenize_preferences(inputs["data"].rows, tokenizer, config.max_length)
        if not pairs:
            raise harness.DataError(f"stage {context.name!r}: no pair fits into max_length: {config.max_length}; raise it")
        size = min(config.per_device_train_batch_size, len(pairs))
        steps = config.max_steps if config.max_steps > 0 else math.ceil(config.num_train_epochs * len(pairs) / size)
        optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        schedule = get_scheduler(config.lr_scheduler_type, optimizer, int(config.warmup_steps), steps)
        for step in range(1, steps + 1):
            batch = random.Random(f"{context.seed} {step}").sample(pairs, size)
            answers = [TokenSequence(pair.prompt_ids, pair.chosen_ids) for pair in batch]
            answers += [TokenSequence(pair.prompt_ids, pair.rejected_ids) for pair in batch]
            collated = collate(answers, tokenizer.pad_token_id, context.compute.device)
            with autocast(context.compute):
                logits = answer_logits(model, collated)
            logprobs = torch.zeros(collated.answer_mask.shape, device=logits.device)
            logprobs[collated.answer_mask] = chosen_logprobs(logits, collated.answer_ids)
            means = logprobs.sum(1) / collated.answer_mask.sum(1)
            loss = simpo_loss(means[:size], means[size:], config.beta, config.gamma)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if step % config.logging_steps == 0 or step == steps:
                accuracy = (means[:size] > means[size:]).float().mean()
                context.log(step, {"loss": loss.item(), "accuracy": accuracy.item()}, steps)
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
        compute: harness.Compute,
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
    recent = harness.spread(readings.last("accuracy", 5))
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
            scalars=("accuracy",),
            needs=5,
            after=0.5,
            threshold="the 95 % interval of accuracy, mean of the last 5 logged values, reaches 50 %",
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
