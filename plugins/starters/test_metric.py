"""What is observed of single answers."""

from __future__ import annotations

import harness

from .metric import MyPlugin, asks_back

PROMPT = (harness.Message(role="user", content="Bring me the cup."),)


def sample(model: str, prompt_id: str, answer: str) -> harness.Sample:
    """An answer that a model gave to a prompt of the suite `asked`."""
    return harness.Sample(
        prompt_id=prompt_id,
        suite="asked",
        model=model,
        prompt=PROMPT,
        answer=answer,
        finish="stop",
        tokens=4,
        logprob=-2.0,
        seed=0,
    )


def test_a_question_anywhere_in_the_answer_counts() -> None:
    assert [asks_back(answer) for answer in ("Which one? I have two.", "The red one.", "")] == [1.0, 0.0, 0.0]


def test_each_answer_stands_beside_the_baselines_to_the_same_prompt() -> None:
    """The baseline has answered them in another order, and not the third."""
    evidence = harness.Evidence(
        model="new",
        suite="asked",
        rows={name: harness.SuiteRow(id=name, prompt=PROMPT) for name in ("a", "b", "c")},
        samples=[sample("new", "a", "Which?"), sample("new", "b", "Here."), sample("new", "c", "Here.")],
        baseline_samples=[sample("old", "b", "Which?"), sample("old", "a", "Here.")],
    )
    found = MyPlugin().observe(evidence, MyPlugin.Config())
    assert [(each.prompt_id, each.value, each.baseline_value) for each in found] == [
        ("a", 1, 0),
        ("b", 0, 1),
        ("c", 0, None),
    ]
