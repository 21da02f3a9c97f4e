"""Prompts alone: what PPO samples answers to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import harness

from .bad_rows import MISSING
from .files import messages, root
from .tables import TableConfig, TableSource, load_table


class Prompts(TableSource):
    """JSON lines, Parquet, or a Hub data set, with `prompt`: text or chat messages; optionally `id`, `category`."""

    name = "prompts"
    gives = "prompts"

    def load(self, config: TableConfig, folder: Path) -> harness.Loaded:
        """All rows that have a prompt. Raises DataError."""
        return load_table(config, folder, "row", _row)


def _row(row: dict[str, Any], identity: str) -> harness.PromptRow | str:
    prompt = _prompt(row.get("prompt"))
    if prompt is None:
        return MISSING
    category = row.get("category")
    return harness.PromptRow(
        id=identity, root=root(prompt), prompt=prompt, category=category if isinstance(category, str) else None
    )


def _prompt(value: Any) -> harness.Prompt | None:
    if isinstance(value, str):
        return (harness.Message(role="user", content=value.strip()),) if value.strip() else None
    found = messages(value)
    return found if found and found[-1].role != "assistant" else None
