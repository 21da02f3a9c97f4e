"""Prompts alone: what PPO samples answers to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field

import harness

from .bad_rows import MISSING
from .files import messages, read_rows


class Prompts(harness.Source):
    """JSON lines, Parquet, or a Hub data set, with `prompt`: text or chat messages."""

    name = "prompts"
    gives = "prompts"

    class Config(harness.SourceConfig):
        """`path` is a file, a folder or a Hub id; `subset` a folder in it, `part` the Hub's own split."""

        path: str
        subset: str | None = None
        revision: str | None = None
        part: str = Field(default="train", description="the Hub's own split to read from")

    def load(self, config: Config, folder: Path) -> harness.Loaded:
        """All rows that have a prompt. Raises DataError."""
        dropped: Counter[str] = Counter()
        rows = []
        source = read_rows(config.path, folder, name=config.subset, split=config.part, revision=config.revision)
        for number, row in enumerate(source):
            prompt = _prompt(row.get("prompt"))
            if prompt is None:
                dropped[MISSING] += 1
            else:
                root = next((message.content for message in prompt if message.role == "user"), prompt[0].content)
                rows.append(harness.PromptRow(id=str(row.get("id", f"row-{number:06d}")), root=root, prompt=prompt))
        return harness.Loaded(rows, dropped)


def _prompt(value: Any) -> harness.Prompt | None:
    if isinstance(value, str):
        return (harness.Message(role="user", content=value.strip()),) if value.strip() else None
    found = messages(value)
    return found if found and found[-1].role != "assistant" else None
