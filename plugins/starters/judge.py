"""my-plugin: a judge of your own. It starts as one that scores how much of the question an answer takes up; put yours in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

import harness


class MyPlugin(harness.ScoringJudge):
    """Prefers the answer that takes up more words of the last message."""

    name = "my-plugin"

    class Config(harness.Options):
        """Options of the judge."""

        shortest: int = Field(default=4, ge=1, description="words with fewer letters do not count")

    def score(
        self,
        prompts: Sequence[harness.Prompt],
        answers: Sequence[str],
        config: Config,
        inputs: Mapping[str, harness.Artifact],
        context: harness.JudgeContext,
    ) -> list[float | None]:
        """The share of the last message's words that stand in the answer, from 0 to 1; None where the message has none."""
        return [self._share(prompt[-1].content, answer, config) for prompt, answer in zip(prompts, answers, strict=True)]

    def _share(self, message: str, answer: str, config: Config) -> float | None:
        asked, said = (
            {word for word in text.lower().split() if len(word) >= config.shortest} for text in (message, answer)
        )
        return len(asked & said) / len(asked) if asked else None


@harness.hookimpl
def harness_judges() -> list[type[harness.Judge]]:
    return [MyPlugin]
