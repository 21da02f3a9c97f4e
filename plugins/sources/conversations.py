"""Conversations: what supervised fine-tuning learns to answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import harness

from .bad_rows import EMPTY, MISSING
from .files import messages, root
from .tables import TableConfig, TableSource, load_table


class Conversations(TableSource):
    """JSON lines, Parquet, or a Hub data set, with `messages`, or with `prompt` and `completion`, as text or chat messages.

    These are TRL's formats. The answer to learn is the assistant's last message; what comes before it is the prompt.
    """

    name = "conversations"
    gives = "conversations"

    def load(self, config: TableConfig, folder: Path) -> harness.Loaded:
        """All rows that end with an answer; the root is the first user turn. Raises DataError."""
        return load_table(config, folder, "row", _row)


def _row(row: dict[str, Any], identity: str) -> harness.Conversation | str:
    turns = messages(row.get("messages")) or _joined(row.get("prompt"), row.get("completion"))
    if turns is None or len(turns) < 2 or turns[-1].role != "assistant":
        return MISSING
    prompt, answer = turns[:-1], turns[-1].content.strip()
    if not answer:
        return EMPTY
    category = row.get("category")
    return harness.Conversation(
        id=identity,
        root=root(prompt),
        prompt=prompt,
        answer=answer,
        category=category if isinstance(category, str) else None,
    )


def _joined(prompt: Any, completion: Any) -> harness.Prompt | None:
    """A prompt and its completion as one conversation, or None if either is no such thing."""
    before = _turns(prompt, "user")
    after = _turns(completion, "assistant")
    return None if before is None or after is None else (*before, *after)


def _turns(value: Any, role: Any) -> harness.Prompt | None:
    return (harness.Message(role=role, content=value.strip()),) if isinstance(value, str) else messages(value)
