"""Supervised fine-tuning: the model learns to give the answers of conversations, or of preferences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import harness


class SFT(harness.Aligner):
    """Maximum likelihood of the answers' tokens; the prompt carries no loss. On TRL's SFTTrainer."""

    name = "sft"
    takes = {"init": "model", "data": "conversations | preferences"}  # noqa: RUF012
    gives = "model"

    class Config(harness.AlignerConfig):
        """Of preferences, `answers` says which are learned: the chosen ones, or both as they come."""

        answers: Literal["chosen", "both"] = "chosen"

    def run(self, config: Config, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train on the rows' answers. Raises DataError if too many are over-long."""
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        from harness.engine.chat import tokenize_conversations
        from harness.engine.models import load_policy, seed_everything, use_threads

        from .rows import tell_counts
        from .trl_training import train, training_arguments

        use_threads(context.compute)
        seed_everything(context.seed)
        model, tokenizer = load_policy(inputs["init"].path, context.compute)
        data: harness.Dataset = inputs["data"]
        conversations, counts = tokenize_conversations(list(_conversations(data, config)), tokenizer, config.max_length)
        tell_counts(len(conversations), counts, data, context)
        rows = [
            {
                "input_ids": [*each.prompt_ids, *each.answer_ids],
                "labels": [*[-100] * len(each.prompt_ids), *each.answer_ids],
            }
            for each in conversations
        ]
        arguments = training_arguments(
            SFTConfig, config, context, dataset_kwargs={"skip_prepare_dataset": True}, loss_type="nll"
        )
        train(SFTTrainer(model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer), context)


def _conversations(data: harness.Dataset, config: SFT.Config) -> Iterator[harness.Conversation]:
    for row in data.rows:
        if isinstance(row, harness.Conversation):
            yield row
        elif isinstance(row, harness.Preference):
            answers = {"chosen": [row.chosen], "both": [row.chosen, row.rejected]}[config.answers]
            for answer in answers:
                yield harness.Conversation(id=row.id, root=row.root, prompt=row.prompt, answer=answer)
