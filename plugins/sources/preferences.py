"""Preferences in TRL's formats: standard or conversational, the prompt explicit or shared by both answers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import harness

from .bad_rows import IDENTICAL, MISSING, UNSHARED, fault
from .files import messages, root
from .tables import TableConfig, TableSource, load_table


class Preferences(TableSource):
    """JSON lines, Parquet, or a Hub data set, with `chosen`, `rejected` and mostly `prompt`.

    `margin`, `category` and `id` are kept where a row has them. Text without a `prompt` is split at the last white space of
    what both texts begin with: answers that begin with the same words lose these to the prompt, as with TRL's
    `extract_prompt`. Conversations without one are split before their last message.
    """

    name = "preferences"
    gives = "preferences"

    def load(self, config: TableConfig, folder: Path) -> harness.Loaded:
        """All good pairs; the root is the first user turn. Raises DataError."""
        return load_table(config, folder, "row", _pair)


def _pair(row: dict[str, Any], identity: str) -> harness.Preference | str:
    parts = _parts(row.get("prompt"), row.get("chosen"), row.get("rejected"))
    if isinstance(parts, str):
        return parts
    prompt, chosen, rejected = parts
    if reason := fault(chosen, rejected):
        return reason
    margin, category = row.get("margin"), row.get("category")
    return harness.Preference(
        id=identity,
        root=root(prompt),
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        margin=float(margin) if isinstance(margin, int | float) else None,
        category=category if isinstance(category, str) else None,
    )


def _parts(prompt: Any, chosen: Any, rejected: Any) -> tuple[harness.Prompt, str, str] | str:
    """Prompt, chosen and rejected answer of a row in any of the formats, or why there are none."""
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _standard(prompt, chosen, rejected)
    good, bad = messages(chosen), messages(rejected)
    if good is None or bad is None:
        return MISSING
    before = _before(prompt, good)
    if before is None:
        return MISSING
    good, bad = (*before, *good), (*before, *bad)
    if good[:-1] != bad[:-1]:
        return UNSHARED
    if len(good) < 2 or good[-1].role != "assistant" or bad[-1].role != "assistant":
        return MISSING
    return good[:-1], good[-1].content.strip(), bad[-1].content.strip()


def _standard(prompt: Any, chosen: str, rejected: str) -> tuple[harness.Prompt, str, str] | str:
    if prompt is None:
        if chosen == rejected:
            return IDENTICAL
        shared = _shared(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        if not prompt.strip():
            return UNSHARED
    if not isinstance(prompt, str) or not prompt.strip():
        return MISSING
    return (harness.Message(role="user", content=prompt.strip()),), chosen.strip(), rejected.strip()


def _before(prompt: Any, chosen: harness.Prompt) -> harness.Prompt | None:
    """The messages before those of `chosen`; None for a prompt that is no such thing.

    Some data sets give the prompt as text beside whole conversations that begin with it.
    """
    if prompt is None:
        return ()
    if isinstance(prompt, str):
        return (harness.Message(role="user", content=prompt.strip()),) if chosen[0].role == "assistant" else ()
    return messages(prompt)


def _shared(chosen: str, rejected: str) -> int:
    """Where the prompt that two texts share ends: after the last white space of their common beginning."""
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))
    return max((end for end, (letter, _) in enumerate(pairs, 1) if letter.isspace()), default=0)
