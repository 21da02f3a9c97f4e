"""my-plugin: a preference loss of your own. It starts as a hinge on the margin of mean log-probabilities; put yours in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

import harness

if TYPE_CHECKING:
    import torch


def pair_loss(chosen: torch.Tensor, rejected: torch.Tensor, margin: float) -> torch.Tensor:
    """max(0, margin - (chosen - rejected)), one per pair.

    `chosen` and `rejected` (B,) are each answer's mean log-probability per token under the policy, in nats.
    """
    return (margin - (chosen - rejected)).clamp(min=0)


class MyPlugin(harness.Aligner):
    """Pushes the chosen answer's mean log-probability over the rejected one's by a margin, without a reference model."""

    name = "my-plugin"
    takes: ClassVar[Mapping[str, str]] = {"init": "model", "data": "preferences"}
    gives = "model"

    class Config(harness.TrainingConfig):
        """Options of the loss, beside those of every training."""

        margin: float = Field(default=1.0, ge=0, description="how far apart the two answers are pushed, in nats per token")

    def run(self, config: Config, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train on the pairs. Raises DataError when no pair fits into `max_length`."""
        from harness.engine.chat import tokenize_preferences
        from harness.engine.learning import PairPreference
        from harness.engine.models import load_policy, save_model, use_threads
        from harness.engine.pairs import choose_layout, pair_logprobs
        from harness.engine.preference_losses import PairLogprobs
        from harness.engine.training import train

        def loss(logprobs: PairLogprobs) -> torch.Tensor:
            return pair_loss(*logprobs.averages(), config.margin)

        use_threads(context.compute)
        model, tokenizer = load_policy(inputs["init"].path, context.compute, disable_dropout=True)
        pairs, _ = tokenize_preferences(inputs["data"].rows, tokenizer, config.max_length)
        if not pairs:
            raise harness.DataError(f"stage {context.name!r}: no pair fits into max_length: {config.max_length}; raise it")
        pad_id, compute = tokenizer.pad_token_id, context.compute
        layout = choose_layout(model, pair_logprobs, pad_id, compute, config.max_length)
        # beta scales the rewards that are logged, and nothing else.
        objective = PairPreference(model, pairs, layout, pad_id, compute, loss, beta=1.0)
        train(model, objective, config, context)
        save_model(model, tokenizer, context.output)


@harness.hookimpl
def harness_aligners() -> list[type[harness.Aligner]]:
    return [MyPlugin]
