"""What is observed of single answers."""

from __future__ import annotations

from .metric import asks_back


def test_a_question_anywhere_in_the_answer_counts() -> None:
    assert [asks_back(answer) for answer in ("Which one? I have two.", "The red one.", "")] == [1.0, 0.0, 0.0]
