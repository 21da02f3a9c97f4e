"""Anthropic's hh-rlhf: human preferences between two dialogues that differ in their last answer."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field

import harness

from .bad_rows import MISSING, UNSHARED, fault
from .files import read_rows

TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}


class HHRLHF(harness.Source):
    """Splits each dialogue at its last `Assistant:`; what comes before is the prompt, as chat messages."""

    name = "hh-rlhf"
    gives = "preferences"

    class Config(harness.SourceConfig):
        """`path` is a Hub id, a .jsonl or .jsonl.gz file, or a folder of them; `subset` is a folder of it."""

        path: str = "Anthropic/hh-rlhf"
        subset: str | None = None
        revision: str | None = None
        part: str = Field(default="train", description="the Hub's own split to read from")

    def load(self, config: Config, folder: Path) -> harness.Loaded:
        """All pairs that share their prompt; the root is the first human turn. Raises DataError."""
        dropped: Counter[str] = Counter()
        rows = []
        source = read_rows(config.path, folder, name=config.subset, split=config.part, revision=config.revision)
        for number, row in enumerate(source):
            pair = _pair(row, number)
            if isinstance(pair, str):
                dropped[pair] += 1
            else:
                rows.append(pair)
        return harness.Loaded(rows, dropped)


def _pair(row: dict[str, Any], number: int) -> harness.Preference | str:
    """A preference, or why there is none."""
    chosen, rejected = _dialogue(row.get("chosen")), _dialogue(row.get("rejected"))
    if chosen is None or rejected is None:
        return MISSING
    if chosen[:-1] != rejected[:-1]:
        return UNSHARED
    answers = chosen[-1].content, rejected[-1].content
    if reason := fault(*answers):
        return reason
    prompt = tuple(chosen[:-1])
    return harness.Preference(id=f"hh-{number:06d}", root=prompt[0].content, prompt=prompt, chosen=answers[0], rejected=answers[1])


def _dialogue(text: Any) -> list[harness.Message] | None:
    """The turns of a dialogue that begins with a human and ends with the assistant, or None.

    Turns of one speaker in a row are joined, as some chat templates want the roles to alternate.
    """
    if not isinstance(text, str):
        return None
    _, *parts = TURN.split(text)
    turns: list[harness.Message] = []
    for speaker, content in zip(parts[::2], parts[1::2], strict=True):
        role: Any = ROLES[speaker]
        if turns and turns[-1].role == role:
            joined = f"{turns.pop().content}\n\n{content.strip()}"
            turns.append(harness.Message(role=role, content=joined))
        else:
            turns.append(harness.Message(role=role, content=content.strip()))
    complete = len(turns) >= 2 and turns[0].role == "user" and turns[-1].role == "assistant"
    return turns if complete else None
