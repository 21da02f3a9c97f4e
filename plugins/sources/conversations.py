"""Conversations: what supervised fine-tuning learns to answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import harness

from .bad_rows import EMPTY, PROMPTLESS, ROLE, BadRow, check_prompt, lacks
from .files import category_of, messages, user_turn, with_system
from .tables import COLUMNS, TableConfig, TableSource, load_table


class Conversations(TableSource):
    """Rows with `messages`, or with `prompt` and `completion`, as text or chat messages.

    These are TRL's formats. The answer to learn is the assistant's last message; what comes before it is the prompt.
    `system`, text, is the first message of a prompt that has no system message of its own. `category` and `id` are kept.
    """

    name = "conversations"
    gives = "conversations"

    class Config(TableConfig):
        columns: dict[Literal["messages", "prompt", "completion", "system", "category", "id"], str] = COLUMNS

    def load(self, config: Config, folder: Path) -> harness.Loaded:
        """All rows that end with an answer; the root is the first user turn. Raises DataError."""
        return load_table(config, folder, "row", _row)


def _row(row: dict[str, Any], identity: str) -> harness.Conversation:
    turns = _conversation(row)
    if turns[-1].role != "assistant":
        raise BadRow(ROLE, f"the last message is the {turns[-1].role}'s; expected the assistant's, the answer to learn")
    prompt, answer = turns[:-1], turns[-1].content.strip()
    if not prompt:
        raise BadRow(PROMPTLESS, "no message stands before the answer; expected a prompt")
    check_prompt(prompt)
    prompt = with_system(prompt, row.get("system"))
    if not answer:
        raise BadRow(EMPTY, "the answer, the last message, is empty")
    return harness.Conversation(
        id=identity, root=harness.root_of(prompt), prompt=prompt, answer=answer, category=category_of(row)
    )


def _conversation(row: dict[str, Any]) -> harness.Prompt:
    """All messages of a row: its `messages`, or its prompt and completion."""
    whole, prompt, completion = row.get("messages"), row.get("prompt"), row.get("completion")
    joined = prompt is not None and completion is not None
    if whole is None and not joined:
        raise lacks(row, "a conversation has messages, or prompt and completion")
    if whole or not joined:
        return messages(whole, "messages", "chat messages")
    asked = user_turn(prompt, "prompt") if isinstance(prompt, str) else messages(prompt, "prompt")
    if isinstance(completion, str):
        return (*asked, harness.Message(role="assistant", content=completion.strip()))
    return (*asked, *messages(completion, "completion"))
