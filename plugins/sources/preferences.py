"""Preferences in TRL's formats: standard or conversational, the prompt explicit or shared by both answers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Literal

import harness

from .bad_rows import (
    IDENTICAL,
    PROMPTLESS,
    ROLE,
    TYPE,
    UNSHARED,
    BadRow,
    check_answers,
    check_prompt,
    check_turns,
    fields,
    kind,
    lacks,
    wrong_type,
)
from .files import category_of, messages, user_turn, with_system
from .tables import COLUMNS, TableConfig, TableSource, load_table


class Preferences(TableSource):
    """Rows with `chosen`, `rejected` and mostly `prompt`.

    `margin`, `category` and `id` are kept where a row has them; `system`, text, is the first message of a prompt that has no
    system message of its own. Text without a `prompt` is split at the last white space of what both texts begin with: answers
    that begin with the same words lose these to the prompt, as with TRL's `extract_prompt`. Conversations without one are
    split before their last message; a prompt that they repeat stands once.
    """

    name = "preferences"
    gives = "preferences"

    class Config(TableConfig):
        columns: dict[Literal["prompt", "chosen", "rejected", "system", "margin", "category", "id"], str] = COLUMNS

    def load(self, config: Config, folder: Path) -> harness.Loaded:
        """All good pairs; the root is the first user turn. Raises DataError."""
        return load_table(config, folder, "row", _pair)


def _pair(row: dict[str, Any], identity: str) -> harness.Preference:
    if row.get("chosen") is None or row.get("rejected") is None:
        raise lacks(row, "a preference has chosen, rejected and mostly prompt")
    prompt, chosen, rejected = _parts(row)
    check_prompt(prompt)
    check_answers(chosen, rejected)
    prompt = with_system(prompt, row.get("system"))
    return harness.Preference(
        id=identity,
        root=harness.root_of(prompt),
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        margin=_margin(row.get("margin")),
        category=category_of(row),
    )


def _margin(value: Any) -> float | None:
    """A margin, which is text in a CSV file. Raises BadRow."""
    if value is None or isinstance(value, int | float):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise wrong_type("margin", value, "a number") from None


def _parts(row: dict[str, Any]) -> tuple[harness.Prompt, str, str]:
    """Prompt, chosen and rejected answer of a row in any of the formats. Raises BadRow."""
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _standard(row)
    if isinstance(chosen, str) or isinstance(rejected, str):
        words = f"chosen is {kind(chosen)} and rejected is {kind(rejected)}; expected text, or chat messages, in both"
        raise BadRow(TYPE, words)
    good, bad = messages(chosen, "chosen"), messages(rejected, "rejected")
    for field, turns in (("chosen", good), ("rejected", bad)):
        if turns[-1].role != "assistant":
            raise BadRow(
                ROLE, f"the last message of {field} is the {turns[-1].role}'s; expected the assistant's, the answer"
            )
    good, bad = _joined(prompt, good), _joined(prompt, bad)
    if good[:-1] != bad[:-1]:
        raise BadRow(UNSHARED, "chosen and rejected differ before their last message; a pair shares what comes before")
    if len(good) < 2:
        raise BadRow(
            PROMPTLESS,
            f"chosen is one message and there is no prompt; expected prompt, or a chosen that begins with it; {_columns(row)}",
        )
    return good[:-1], good[-1].content.strip(), bad[-1].content.strip()


def _columns(row: dict[str, Any]) -> str:
    return f"the row has {fields(row)}, and `columns` maps fields to other columns"


def _standard(row: dict[str, Any]) -> tuple[harness.Prompt, str, str]:
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if prompt is None:
        if chosen == rejected:
            raise BadRow(IDENTICAL, "chosen and rejected are the same text")
        check_turns(chosen, "chosen")
        shared = _shared(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
        if not prompt.strip():
            raise BadRow(
                UNSHARED,
                f"there is no prompt, and chosen and rejected do not begin alike; expected prompt; {_columns(row)}",
            )
    if not isinstance(prompt, str):
        raise wrong_type("prompt", prompt, "text as in chosen and rejected, or chat messages in all three")
    return user_turn(prompt, "prompt"), chosen.strip(), rejected.strip()


def _joined(prompt: Any, answer: harness.Prompt) -> harness.Prompt:
    """A row's prompt and the messages of `chosen` or `rejected` as one conversation, system messages first.

    Some data sets give the prompt beside whole conversations that begin with it: it stands once then. Text is taken for the
    user's message that a conversation begins with.
    """
    if prompt is None:
        return answer
    own, said = _apart(answer)
    if isinstance(prompt, str):
        return answer if said[0].role == "user" else (*own, *user_turn(prompt, "prompt"), *said)
    system, asked = _apart(messages(prompt, "prompt"))
    return (*system, *_behind(system, own), *asked, *_behind(asked, said))


def _apart(turns: harness.Prompt) -> tuple[harness.Prompt, harness.Prompt]:
    """The system messages that a conversation begins with, and what follows them."""
    rest = tuple(itertools.dropwhile(lambda message: message.role == "system", turns))
    return turns[: len(turns) - len(rest)], rest


def _behind(first: harness.Prompt, turns: harness.Prompt) -> harness.Prompt:
    """What follows in `turns` behind the messages `first`, if they begin with these; else all of them."""
    pairs = [
        (one.role, one.content.strip()) == (other.role, other.content.strip())
        for one, other in zip(first, turns, strict=False)
    ]
    return turns[len(first) :] if len(pairs) == len(first) and all(pairs) else turns


def _shared(chosen: str, rejected: str) -> int:
    """Where the prompt that two texts share ends: after the last white space of their common beginning."""
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))
    return max((end for end, (letter, _) in enumerate(pairs, 1) if letter.isspace()), default=0)
