"""A judge that knows the toy world's true score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import harness

from ..toy import truth


class ToyTruth(harness.ScoringJudge):
    """Scores an answer by its true score for the last user message; it needs no model and makes no error."""

    name = "toy-truth"

    def score(
        self,
        prompts: Sequence[harness.Prompt],
        answers: Sequence[str],
        config: Any,
        inputs: Mapping[str, harness.Artifact],
        context: harness.JudgeContext,
    ) -> Sequence[float | None]:
        """One score from -10 to 10 per answer; None for a prompt without a user message."""
        return [_score(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]


def _score(prompt: harness.Prompt, answer: str) -> float | None:
    asked = [message.content for message in prompt if message.role == "user"]
    return truth(asked[-1], answer) if asked else None
