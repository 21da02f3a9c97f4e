"""Prompts alone: what PPO samples answers to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import harness

from .bad_rows import PROMPTLESS, ROLE, BadRow, lacks
from .files import messages, root
from .tables import TableConfig, TableSource, load_table


class Prompts(TableSource):
    """JSON lines, Parquet, or a Hub data set, with `prompt`: text or chat messages; optionally `id`, `category`."""

    name = "prompts"
    gives = "prompts"

    def load(self, config: TableConfig, folder: Path) -> harness.Loaded:
        """All rows that have a prompt. Raises DataError."""
        return load_table(config, folder, "row", _row)


def _row(row: dict[str, Any], identity: str) -> harness.PromptRow:
    if row.get("prompt") is None:
        raise lacks(row, "a row of prompts has prompt")
    prompt = _prompt(row["prompt"])
    category = row.get("category")
    return harness.PromptRow(
        id=identity, root=root(prompt), prompt=prompt, category=category if isinstance(category, str) else None
    )


def _prompt(value: Any) -> harness.Prompt:
    if isinstance(value, str):
        if not value.strip():
            raise BadRow(PROMPTLESS, "prompt is empty")
        return (harness.Message(role="user", content=value.strip()),)
    found = messages(value, "prompt")
    if found[-1].role == "assistant":
        raise BadRow(ROLE, "the last message of prompt is the assistant's; expected the user's, which waits for an answer")
    return found
