"""Where PPO's scores come from: a reward model, which reads tokens, or a judge, which reads text."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from typing import Any

import torch

import harness
from harness.engine.chat import decode_answer, stop_ids
from harness.engine.likelihood import TokenSequence
from harness.engine.models import load_reward_model
from harness.engine.score import score_sequences


class ModelReward:
    """A reward model's score at the last token of prompt and answer. It reads the policy's tokens as they are.

    `key` names it: scores of another key are on another scale. Raises StageError for a model with a vocabulary of its own.
    """

    def __init__(self, artifact: harness.Artifact, policy: Any, tokenizer: Any, context: harness.StageContext) -> None:
        self.artifact, self.policy, self.tokenizer, self.context = artifact, policy, tokenizer, context
        self.key = artifact.key
        self.model = self.open()

    def open(self) -> Any:
        """The reward model afresh, without dropout; a copy of it is the best start of a critic (Huang et al., 2024)."""
        model, tokenizer = load_reward_model(self.artifact.path, self.context.compute, disable_dropout=True)
        sizes = [len(each.get_input_embeddings().weight) for each in (self.policy, model)]
        vocabularies = [(each.get_vocab(), stop_ids(each)) for each in (self.tokenizer, tokenizer)]
        if vocabularies[0] != vocabularies[1] or sizes[0] != sizes[1]:
            raise harness.StageError(
                f"stage {self.context.name!r}: init and reward have different vocabularies; train both from one base"
            )
        return model

    def score(self, rows: Sequence[harness.PromptRow], answers: Sequence[TokenSequence]) -> torch.Tensor:
        """One score per answer, (B,) fp32 on the CPU, in the model's own unit. Raises StageError for one that is no number."""
        whole = [[*answer.prompt_ids, *answer.answer_ids] for answer in answers]
        scores = score_sequences(self.model, whole, self.context.compute, pad_id=self.tokenizer.pad_token_id)
        if not scores.isfinite().all():
            raise harness.StageError(
                f"stage {self.context.name!r}: its reward model gives an answer the score "
                f"{float(scores[~scores.isfinite()][0])}; train it again with a lower learning_rate"
            )
        return scores


class JudgeReward:
    """A judge's score of an answer's text to the whole prompt of its row. `key` names the judge with its options."""

    def __init__(self, judge: harness.Scorer, tokenizer: Any, stop: Collection[int], context: harness.StageContext) -> None:
        self.judge, self.tokenizer, self.stop, self.context = judge, tokenizer, stop, context
        self.key = json.dumps(judge.identity, sort_keys=True)

    def score(self, rows: Sequence[harness.PromptRow], answers: Sequence[TokenSequence]) -> torch.Tensor:
        """One score per answer, (B,) fp32 on the CPU, NaN where the judge gives none. Raises StageError if it gives none at all."""
        texts = [decode_answer(self.tokenizer, answer.answer_ids, self.stop) for answer in answers]
        scores = self.judge.score([row.prompt for row in rows], texts, self.context.compute)
        if all(score is None for score in scores):
            raise harness.StageError(f"stage {self.context.name!r}: {self.judge.name} scored none of {len(scores)} answers")
        return torch.tensor([math.nan if score is None else score for score in scores], dtype=torch.float32)
