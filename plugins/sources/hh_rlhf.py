"""Anthropic's hh-rlhf (Bai et al. 2022, arXiv 2204.05862): pairs of dialogues that differ in their last answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import harness

from .bad_rows import MISSING, UNSHARED, fault
from .tables import TableConfig, TableSource, load_table

TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES: dict[str, Literal["user", "assistant"]] = {"Human": "user", "Assistant": "assistant"}


class HHRLHF(TableSource):
    """Splits each dialogue at its last `Assistant:`; what comes before is the prompt, as chat messages."""

    name = "hh-rlhf"
    gives = "preferences"

    class Config(TableConfig):
        """`path` is a Hub id, a .jsonl or .jsonl.gz file, or a folder of them; `subset` is a folder of it."""

        path: str = "Anthropic/hh-rlhf"

    def load(self, config: Config, folder: Path) -> harness.Loaded:
        """All pairs that share their prompt; the root is the first human turn. Raises DataError."""
        return load_table(config, folder, "hh", _pair)


def _pair(row: dict[str, Any], identity: str) -> harness.Preference | str:
    """A preference, or why there is none."""
    chosen, rejected = _turns(row.get("chosen")), _turns(row.get("rejected"))
    if chosen is None or rejected is None:
        return MISSING
    if chosen[:-1] != rejected[:-1]:
        return UNSHARED
    answers = chosen[-1].content, rejected[-1].content
    if reason := fault(*answers):
        return reason
    prompt = _alternating(chosen[:-1])
    return harness.Preference(id=identity, root=chosen[0].content, prompt=prompt, chosen=answers[0], rejected=answers[1])


def _turns(text: Any) -> list[harness.Message] | None:
    """The turns of a dialogue that begins with the human and ends with the assistant, or None."""
    if not isinstance(text, str):
        return None
    before, *parts = TURN.split(text)
    turns = [
        harness.Message(role=ROLES[speaker], content=content.strip())
        for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    ]
    complete = len(turns) >= 2 and turns[0].role == "user" and turns[-1].role == "assistant" and not before.strip()
    return turns if complete else None


def _alternating(turns: Sequence[harness.Message]) -> harness.Prompt:
    """Turns with those of one speaker in a row joined, as some chat templates want the roles to alternate."""
    joined: list[harness.Message] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            turn = harness.Message(role=turn.role, content=f"{joined.pop().content}\n\n{turn.content}")
        joined.append(turn)
    return tuple(joined)
