"""Anthropic's hh-rlhf (Bai et al. 2022, arXiv 2204.05862): pairs of dialogues that differ in their last answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import harness

from .bad_rows import NO_DIALOGUE, UNSHARED, BadRow, check_answers, lacks, wrong_type
from .tables import COLUMNS, TableConfig, TableSource, load_table

TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES: dict[str, Literal["user", "assistant"]] = {"Human": "user", "Assistant": "assistant"}


class HHRLHF(TableSource):
    """Splits each dialogue at its last `Assistant:`; what comes before is the prompt, as chat messages.

    A dialogue is text with a blank line before each `Human:` and `Assistant:`, but for the first.
    """

    name = "hh-rlhf"
    gives = "preferences"

    class Config(TableConfig):
        path: str = "Anthropic/hh-rlhf"
        columns: dict[Literal["chosen", "rejected", "id"], str] = COLUMNS

    def load(self, config: Config, folder: Path) -> harness.Loaded:
        """All pairs that share their prompt; the root is the first human turn. Raises DataError."""
        return load_table(config, folder, "hh", _pair)


def _pair(row: dict[str, Any], identity: str) -> harness.Preference:
    """A preference. Raises BadRow."""
    if row.get("chosen") is None or row.get("rejected") is None:
        raise lacks(row, "a pair of hh-rlhf has chosen and rejected")
    chosen, rejected = _turns(row["chosen"], "chosen"), _turns(row["rejected"], "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise BadRow(UNSHARED, "chosen and rejected differ before their last Assistant:; a pair shares what comes before")
    answers = chosen[-1].content, rejected[-1].content
    check_answers(*answers)
    prompt = _alternating(chosen[:-1])
    return harness.Preference(id=identity, root=chosen[0].content, prompt=prompt, chosen=answers[0], rejected=answers[1])


def _turns(text: Any, field: str) -> list[harness.Message]:
    """The turns of a dialogue that begins with the human and ends with the assistant. Raises BadRow."""
    if not isinstance(text, str):
        raise wrong_type(field, text, "a dialogue as text")
    before, *parts = TURN.split(f"\n\n{text.lstrip()}")
    turns = [
        harness.Message(role=ROLES[speaker], content=content.strip())
        for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    ]
    if before.strip() or len(turns) < 2 or turns[0].role != "user" or turns[-1].role != "assistant":
        raise BadRow(
            NO_DIALOGUE, rf"{field} is no dialogue; expected \n\nHuman: first and \n\nAssistant: before the last answer"
        )
    return turns


def _alternating(turns: Sequence[harness.Message]) -> harness.Prompt:
    """Turns with those of one speaker in a row joined, as some chat templates want the roles to alternate."""
    joined: list[harness.Message] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            turn = harness.Message(role=turn.role, content=f"{joined.pop().content}\n\n{turn.content}")
        joined.append(turn)
    return tuple(joined)
