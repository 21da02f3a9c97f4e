"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

import harness


class DPO(harness.Aligner):
    """-log sigmoid(beta · (log-ratio of chosen - log-ratio of rejected)), against the frozen `init`. On TRL's DPOTrainer.

    A larger beta keeps the policy closer to the reference. `loss_type` is one of TRL's.
    """

    name = "dpo"
    takes = {"init": "model", "data": "preferences"}  # noqa: RUF012
    gives = "model"

    class Config(harness.AlignerConfig):
        """Options of the loss."""

        learning_rate: float = Field(default=1e-6, gt=0)
        beta: float = Field(default=0.1, gt=0)
        loss_type: str = "sigmoid"
        label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)

    def run(self, config: Config, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train on the pairs. Raises DataError if too many are over-long."""
        from datasets import Dataset
        from trl import DPOConfig, DPOTrainer

        from harness.engine.chat import tokenize_preferences
        from harness.engine.models import load_policy, seed_everything, use_threads

        from .rows import tell_counts
        from .trl_training import train, training_arguments

        class TokenizedDPOTrainer(DPOTrainer):  # type: ignore[misc]
            """Takes token ids as they are: TRL would tokenize the text again, and cut it its own way."""

            def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
                return dataset

        use_threads(context.compute)
        seed_everything(context.seed)
        model, tokenizer = load_policy(inputs["init"].path, context.compute)
        reference, _ = load_policy(inputs["init"].path, context.compute)
        data: harness.Dataset = inputs["data"]
        pairs, counts = tokenize_preferences(data.rows, tokenizer, config.max_length)  # type: ignore[arg-type]
        tell_counts(len(pairs), counts, data, context)
        rows = [
            {"prompt_ids": pair.prompt_ids, "chosen_ids": pair.chosen_ids, "rejected_ids": pair.rejected_ids}
            for pair in pairs
        ]
        arguments = training_arguments(
            DPOConfig,
            config,
            context,
            beta=config.beta,
            loss_type=[config.loss_type],
            label_smoothing=config.label_smoothing,
        )
        trainer = TokenizedDPOTrainer(
            model, ref_model=reference, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
        )
        train(trainer, context)
