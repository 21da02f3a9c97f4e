"""Preferences in TRL's formats: standard or conversational, the prompt explicit or shared by both answers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import harness

from .bad_rows import IDENTICAL, PROMPTLESS, ROLE, TYPE, UNSHARED, BadRow, check_answers, kind, lacks, wrong_type
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


def _pair(row: dict[str, Any], identity: str) -> harness.Preference:
    if row.get("chosen") is None or row.get("rejected") is None:
        raise lacks(row, "a preference has chosen, rejected and mostly prompt")
    prompt, chosen, rejected = _parts(row.get("prompt"), row["chosen"], row["rejected"])
    check_answers(chosen, rejected)
    margin, category = row.get("margin"), row.get("category")
    return harness.Preference(
        id=identity,
        root=root(prompt),
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        margin=margin if isinstance(margin, int | float) else None,
        category=category if isinstance(category, str) else None,
    )


def _parts(prompt: Any, chosen: Any, rejected: Any) -> tuple[harness.Prompt, str, str]:
    """Prompt, chosen and rejected answer of a row in any of the formats. Raises BadRow."""
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _standard(prompt, chosen, rejected)
    if isinstance(chosen, str) or isinstance(rejected, str):
        words = f"chosen is {kind(chosen)} and rejected is {kind(rejected)}; expected text, or chat messages, in both"
        raise BadRow(TYPE, words)
    good, bad = messages(chosen, "chosen"), messages(rejected, "rejected")
    before = _before(prompt, good)
    good, bad = (*before, *good), (*before, *bad)
    if good[:-1] != bad[:-1]:
        raise BadRow(UNSHARED, "chosen and rejected differ before their last message; a pair shares what comes before")
    for field, turns in (("chosen", good), ("rejected", bad)):
        if turns[-1].role != "assistant":
            raise BadRow(
                ROLE, f"the last message of {field} is the {turns[-1].role}'s; expected the assistant's, the answer"
            )
    if len(good) < 2:
        raise BadRow(
            PROMPTLESS, "chosen is one message and there is no prompt; expected prompt, or a chosen that begins with it"
        )
    return good[:-1], good[-1].content.strip(), bad[-1].content.strip()


def _standard(prompt: Any, chosen: str, rejected: str) -> tuple[harness.Prompt, str, str]:
    if prompt is None:
        if chosen == rejected:
            raise BadRow(IDENTICAL, "chosen and rejected are the same text")
        shared = _shared(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        if not prompt.strip():
            raise BadRow(UNSHARED, "there is no prompt, and chosen and rejected do not begin alike; expected prompt")
    if not isinstance(prompt, str):
        raise wrong_type("prompt", prompt, "text as in chosen and rejected, or chat messages in all three")
    if not prompt.strip():
        raise BadRow(PROMPTLESS, "prompt is empty")
    return (harness.Message(role="user", content=prompt.strip()),), chosen.strip(), rejected.strip()


def _before(prompt: Any, chosen: harness.Prompt) -> harness.Prompt:
    """The messages before those of `chosen`.

    Some data sets give the prompt as text beside whole conversations that begin with it.
    """
    if prompt is None:
        return ()
    if isinstance(prompt, str):
        return (harness.Message(role="user", content=prompt.strip()),) if chosen[0].role == "assistant" else ()
    return messages(prompt, "prompt")


def _shared(chosen: str, rejected: str) -> int:
    """Where the prompt that two texts share ends: after the last white space of their common beginning."""
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))
    return max((end for end, (letter, _) in enumerate(pairs, 1) if letter.isspace()), default=0)
