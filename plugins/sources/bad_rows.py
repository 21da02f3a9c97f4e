"""Why a row is of no use: the reasons are counted and shown, and the words tell what is wrong with one row."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import harness

MISSING = "missing field"
TYPE = "wrong type"
ROLE = "wrong role"
NO_DIALOGUE = "no dialogue"
PROMPTLESS = "no prompt"
EMPTY = "empty answer"
IDENTICAL = "identical pair"
UNSHARED = "prompts that differ"
INVALID = "invalid value"
TRANSCRIPT = "transcript"
TEMPLATED = "template options"

TURNS = re.compile(r"\s*Human:.*?\n\nAssistant:", re.DOTALL)

KINDS = {
    type(None): "nothing",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


class BadRow(Exception):
    """A row of no use: `reason` is what it is counted under, the words say what is wrong and what was expected."""

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.reason = reason


def lacks(row: dict[str, Any], wanted: str) -> BadRow:
    """What a row has in place of the wanted fields."""
    return BadRow(MISSING, f"has {fields(row)}; {wanted}; `columns` maps fields to other columns")


def fields(row: dict[str, Any]) -> str:
    """The names of what a row holds."""
    names = ", ".join(str(name) for name, value in row.items() if value is not None)
    return textwrap.shorten(names, 80, placeholder=" …") or "no field"


def wrong_type(field: str, value: Any, expected: str) -> BadRow:
    """A field that holds another kind of value than the expected one."""
    return BadRow(TYPE, f"{field} is {kind(value)}; expected {expected}")


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    return KINDS.get(type(value), f"a {type(value).__name__}")


def check_prompt(prompt: harness.Prompt) -> None:
    """Raise BadRow if the last message of a prompt, which waits for an answer, is empty."""
    if not prompt[-1].content.strip():
        raise BadRow(PROMPTLESS, f"{'the last message of prompt' if len(prompt) > 1 else 'prompt'} is empty")


def check_turns(text: str, field: str) -> None:
    """Raise BadRow for a transcript in hh-rlhf's form, of which a chat template would make one turn."""
    if TURNS.match(text):
        raise BadRow(
            TRANSCRIPT,
            f"{field} is a transcript (Human: …, Assistant: …), and would be one user turn; `source: hh-rlhf` reads such texts in "
            "chosen and rejected, chat messages tell turns apart everywhere",
        )


def check_answers(chosen: str, rejected: str) -> None:
    """Raise BadRow if one of a pair of answers is empty, or if they are the same."""
    for field, answer in (("chosen", chosen), ("rejected", rejected)):
        if not answer.strip():
            raise BadRow(EMPTY, f"the answer in {field} is empty")
    if chosen.strip() == rejected.strip():
        raise BadRow(IDENTICAL, "chosen and rejected are the same answer")
