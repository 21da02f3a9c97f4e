"""The reward model: a scalar score for prompt and answer, learned from preferences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import harness


class RewardModel(harness.Aligner):
    """Bradley-Terry (1952): -log sigmoid(r(chosen) - r(rejected) - margin). On TRL's RewardTrainer.

    `center_rewards_coefficient` c adds c · (r(chosen) + r(rejected))², which keeps scores around zero (Eisenstein et al. 2023,
    arXiv 2312.09244). Rows that have a margin use it where `margin` says so.
    """

    name = "reward"
    takes = {"init": "model", "data": "preferences", "valid": "preferences?"}  # noqa: RUF012
    gives = "reward-model"

    class Config(harness.AlignerConfig):
        """Options of the loss."""

        center_rewards_coefficient: float | None = None
        margin: bool = False

    def run(self, config: Config, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train on the pairs. Raises DataError if too many are over-long, or if `margin` is on and a row has none."""
        from datasets import Dataset
        from trl import RewardConfig, RewardTrainer

        from harness.engine.chat import tokenize_preferences
        from harness.engine.models import reward_model_from, seed_everything, use_threads

        from .rows import tell_counts
        from .trl_training import train, training_arguments

        use_threads(context.compute)
        seed_everything(context.seed)
        model, tokenizer = reward_model_from(inputs["init"].path, context.compute, context.seed)
        data: harness.Dataset = inputs["data"]
        if config.margin and any(getattr(row, "margin", None) is None for row in data.rows):
            raise harness.DataError(f"{data.reference}: `margin: true`, and some rows have no margin; leave the option out")
        pairs, counts = tokenize_preferences(data.rows, tokenizer, config.max_length)  # type: ignore[arg-type]
        tell_counts(len(pairs), counts, data, context)
        rows = [
            {
                "chosen_ids": [*pair.prompt_ids, *pair.chosen_ids],
                "rejected_ids": [*pair.prompt_ids, *pair.rejected_ids],
                **({"margin": pair.margin} if config.margin else {}),
            }
            for pair in pairs
        ]
        arguments = training_arguments(
            RewardConfig, config, context, center_rewards_coefficient=config.center_rewards_coefficient
        )
        train(
            RewardTrainer(model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer), context
        )
