"""Preferences in TRL's formats: standard or conversational, the prompt explicit or shared by both answers."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field

import harness

from .bad_rows import MISSING, UNSHARED, fault
from .files import messages, read_rows


class Preferences(harness.Source):
    """JSON lines, Parquet, or a Hub data set, with `chosen`, `rejected` and mostly `prompt`; optionally `margin`, `id`."""

    name = "preferences"
    gives = "preferences"

    class Config(harness.SourceConfig):
        """`path` is a file, a folder or a Hub id; `subset` a folder in it, `part` the Hub's own split."""

        path: str
        subset: str | None = None
        revision: str | None = None
        part: str = Field(default="train", description="the Hub's own split to read from")

    def load(self, config: Config, folder: Path) -> harness.Loaded:
        """All good pairs; the root is the first user turn. Raises DataError."""
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
    parts = _parts(row)
    if isinstance(parts, str):
        return parts
    prompt, chosen, rejected = parts
    if reason := fault(chosen, rejected):
        return reason
    margin = row.get("margin")
    return harness.Preference(
        id=str(row.get("id", f"row-{number:06d}")),
        root=next((message.content for message in prompt if message.role == "user"), prompt[0].content),
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        margin=float(margin) if isinstance(margin, int | float) else None,
        category=row["category"] if isinstance(row.get("category"), str) else None,
    )


def _parts(row: dict[str, Any]) -> tuple[harness.Prompt, str, str] | str:
    """Prompt, chosen and rejected answer of a row in any of the formats, or why there are none."""
    prompt, chosen, rejected = row.get("prompt"), row.get("chosen"), row.get("rejected")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if prompt is None:
            shared = _shared_text(chosen, rejected)
            prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
            if not prompt.strip():
                return UNSHARED
        if not isinstance(prompt, str) or not prompt.strip():
            return MISSING
        return (harness.Message(role="user", content=prompt.strip()),), chosen.strip(), rejected.strip()
    good, bad = messages(chosen), messages(rejected)
    if good is None or bad is None:
        return MISSING
    before = messages(prompt) if prompt is not None else ()
    if before is None:
        return MISSING
    good, bad = (*before, *good), (*before, *bad)
    if good[:-1] != bad[:-1]:
        return UNSHARED
    if len(good) < 2 or good[-1].role != "assistant" or bad[-1].role != "assistant":
        return MISSING
    return good[:-1], good[-1].content.strip(), bad[-1].content.strip()


def _shared_text(chosen: str, rejected: str) -> int:
    """Where the prompt that two texts share ends: at the last white space of their common beginning."""
    common = os.path.commonprefix([chosen, rejected])
    return max(common.rfind(" "), common.rfind("\n")) + 1
