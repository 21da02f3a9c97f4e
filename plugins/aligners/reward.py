"""The reward model: a scalar score for prompt and answer, learned from preferences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

import harness

RELOADED = 16
"""Pairs whose scores are compared before and after saving."""


class RewardModel(harness.Aligner):
    """Bradley-Terry (1952): -log sigmoid(r(chosen) - r(rejected) - margin).

    `center_rewards_coefficient` times the squared sum of both scores is added, which keeps scores around zero (Eisenstein et
    al. 2023, arXiv 2312.09244). Rows that have a margin use it where `margin` says so.
    """

    name = "reward"
    takes = {"init": "model", "data": "preferences", "valid": "preferences?"}  # noqa: RUF012
    gives = "reward-model"

    class Config(harness.TrainingConfig):
        """Options of the loss."""

        center_rewards_coefficient: float | None = Field(default=None, ge=0)
        margin: bool = False
        engine: Literal["harness", "trl"] = Field(default="harness", description="trl trains with TRL's RewardTrainer")

    def run(self, config: Config, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train on the pairs. Raises DataError if too many are over-long, or if `margin` is on and a row has none."""
        from harness.engine.chat import tokenize_preferences
        from harness.engine.models import reward_model_from, save_model, seed_everything, use_threads

        from .rows import tell_counts, tell_layout, usable_length

        use_threads(context.compute)
        seed_everything(context.seed)
        model, tokenizer = reward_model_from(inputs["init"].path, context.compute, context.seed, disable_dropout=True)
        data: harness.Dataset = inputs["data"]
        if config.margin and any(getattr(row, "margin", None) is None for row in data.rows):
            raise harness.DataError(f"{data.reference}: `margin: true`, and some rows have no margin; leave the option out")
        max_length = usable_length(config, context, model)
        pairs, counts = tokenize_preferences(data.rows, tokenizer, max_length)  # type: ignore[arg-type]
        tell_counts(len(pairs), counts, data, context)
        if config.engine == "trl":
            from .trl_training import train_reward

            train_reward(model, tokenizer, pairs, config, context)
            save_model(model, tokenizer, context.output)
            return
        from harness.engine.learning import PairReward
        from harness.engine.models import load_reward_model
        from harness.engine.pairs import choose_layout, pair_scores, read_all
        from harness.engine.training import train

        pad_id, compute = tokenizer.pad_token_id, context.compute
        layout = choose_layout(model, pair_scores, pad_id, compute, max_length)
        tell_layout(layout, context)
        centering = config.center_rewards_coefficient or 0.0
        steps = train(model, PairReward(model, pairs, layout, pad_id, compute, centering, config.margin), config, context)
        save_model(model, tokenizer, context.output)
        again, _ = load_reward_model(context.output, compute)
        before, after = (read_all(pair_scores, each, pairs[:RELOADED], layout, pad_id, compute) for each in (model, again))
        context.log(steps, {"reload_difference": float((before - after).abs().max())}, steps)
