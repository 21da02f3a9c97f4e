"""The scores against arithmetic done by hand."""

from __future__ import annotations

import harness

from .judge import MyPlugin


def test_the_score_is_the_share_of_words_taken_up() -> None:
    """`describe`, `wide` and `garden` count, `a` does not; two of the three are taken up. `Hi.` has no word that counts."""
    prompts = [(harness.Message(role="user", content=text),) for text in ("Describe a wide garden", "Hi.")]
    answers = ["A wide Garden is quiet.", "Hello."]
    context = harness.JudgeContext(harness.Compute("cpu", "fp32", 1))
    assert MyPlugin().score(prompts, answers, MyPlugin.Config(), {}, context) == [2 / 3, None]
