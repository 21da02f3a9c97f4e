"""A reward model as a judge: the answer with the higher score wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

import harness


class RewardModelJudge(harness.ScoringJudge):
    """Scores each answer by a reward model of the plan, which reads the prompt and the answer."""

    name = "reward-model"
    takes: ClassVar[Mapping[str, str]] = {"model": "reward-model"}

    class Config(harness.Options):
        """`model` is a stage that gives a reward model; `max_length` is in tokens, prompt and answer together."""

        model: str
        max_length: int = Field(default=1024, ge=16)
        temperature: Annotated[float, Field(gt=0)] | Literal["fit"] | None = Field(
            default=None,
            description="soft preferences, sigmoid((candidate - baseline) / temperature); fit takes the one that makes its "
            "stage's `valid` preferences likeliest; where left out, the higher score wins outright",
        )

    def softness(self, config: Config) -> float | Literal["fit"] | None:
        """The temperature of the plan."""
        return config.temperature

    def score(
        self,
        prompts: Sequence[harness.Prompt],
        answers: Sequence[str],
        config: Config,
        inputs: Mapping[str, harness.Artifact],
        context: harness.JudgeContext,
    ) -> list[float | None]:
        """One score per answer; None for an answer longer than `max_length`. Raises DataError."""
        from harness.engine.models import load_reward_model, use_threads
        from harness.engine.score import score_answers

        compute = context.compute
        use_threads(compute)
        model, tokenizer = load_reward_model(inputs["model"].path, compute)
        return score_answers(model, tokenizer, prompts, answers, config.max_length, compute)
