"""Built-in judges: what says which of two answers is better."""

from __future__ import annotations

import harness


@harness.hookimpl
def harness_judges() -> list[type[harness.Judge]]:
    from .llm import Llm
    from .reward_model import RewardModelJudge
    from .rubric import Rubric, StrongReject
    from .toy_truth import ToyTruth

    return [Llm, RewardModelJudge, Rubric, StrongReject, ToyTruth]
