"""Supervised fine-tuning: the model learns to give the answers of conversations, or of preferences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

import harness


class SFT(harness.Aligner):
    """Maximum likelihood of the answers' tokens; the prompt carries no loss."""

    name = "sft"
    takes = {"init": "model", "data": "conversations | preferences"}  # noqa: RUF012
    gives = "model"

    class Config(harness.TrainingConfig):
        """Of preferences, `answers` says which are learned: the chosen ones, or both as they come."""

        answers: Literal["chosen", "both"] = "chosen"
        engine: Literal["harness", "trl"] = Field(default="harness", description="trl trains with TRL's SFTTrainer")

    def run(self, config: Config, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train on the rows' answers. Raises DataError if too many are over-long."""
        from harness.engine.chat import tokenize_conversations
        from harness.engine.models import load_policy, save_model, seed_everything, use_threads

        from .rows import tell_counts, usable_length

        use_threads(context.compute)
        seed_everything(context.seed)
        model, tokenizer = load_policy(inputs["init"].path, context.compute)
        data: harness.Dataset = inputs["data"]
        max_length = usable_length(config, context, model)
        rows, counts = tokenize_conversations(list(_conversations(data, config)), tokenizer, max_length)
        tell_counts(len(rows), counts, data, context)
        if config.engine == "trl":
            from .trl_training import train_sft

            train_sft(model, tokenizer, rows, config, context)
        else:
            from harness.engine.learning import AnswerLikelihood
            from harness.engine.training import train

            train(model, AnswerLikelihood(model, rows, tokenizer.pad_token_id, context.compute), config, context)
        save_model(model, tokenizer, context.output)


def _conversations(data: harness.Dataset, config: SFT.Config) -> Iterator[harness.Conversation]:
    for row in data.rows:
        if isinstance(row, harness.Conversation):
            yield row
        elif isinstance(row, harness.Preference):
            answers = {"chosen": [row.chosen], "both": [row.chosen, row.rejected]}[config.answers]
            for answer in answers:
                yield harness.Conversation(id=row.id, root=row.root, prompt=row.prompt, answer=answer)
