"""Prompts alone: what PPO samples answers to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import harness

from .bad_rows import ROLE, BadRow, check_prompt, lacks
from .files import category_of, messages, user_turn, with_system
from .tables import COLUMNS, TableConfig, TableSource, load_table


class Prompts(TableSource):
    """Rows with `prompt`: text or chat messages; optionally `id`, `category`, `system`.

    `system` is text, the first message of a prompt that has no system message of its own.
    """

    name = "prompts"
    gives = "prompts"

    class Config(TableConfig):
        columns: dict[Literal["prompt", "system", "category", "id"], str] = COLUMNS

    def load(self, config: Config, folder: Path) -> harness.Loaded:
        """All rows that have a prompt. Raises DataError."""
        return load_table(config, folder, "row", _row)


def _row(row: dict[str, Any], identity: str) -> harness.PromptRow:
    if row.get("prompt") is None:
        raise lacks(row, "a row of prompts has prompt")
    prompt = with_system(_prompt(row["prompt"]), row.get("system"))
    return harness.PromptRow(id=identity, root=harness.root_of(prompt), prompt=prompt, category=category_of(row))


def _prompt(value: Any) -> harness.Prompt:
    found = user_turn(value, "prompt") if isinstance(value, str) else messages(value, "prompt")
    check_prompt(found)
    if found[-1].role == "assistant":
        raise BadRow(ROLE, "the last message of prompt is the assistant's; expected the user's, which waits for an answer")
    return found
