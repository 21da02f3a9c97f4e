"""What a judge's reply says: read from the log-probabilities of its verdict where they are known, else from its last line.

Nothing but the very last line counts, and only in its exact form; a full stop at its end and the emphasis of Markdown, around
it or around one side of the colon, change nothing. Everything else is unread, with the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

PARSER = 1
"""The version of this reading; part of the key of every reply. What could not be read is not kept, so reading more keeps it."""

MIN_MASS = 0.5
"""The least probability that the words of a verdict must hold together, for a reading by log-probabilities."""

QUOTED = 80
"""The longest quotation of a last line, in characters."""

EMPHASIS = r"(\*{0,3}|_{0,3})"


@dataclass(frozen=True)
class Alternative:
    """A token that could have stood in a place, and its natural log-probability there."""

    token: str
    logprob: float


@dataclass(frozen=True)
class Token:
    """A token of a reply and the likeliest ones in its place, itself among them or not."""

    token: str
    logprob: float
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class Reply:
    """A whole reply of the endpoint. `model` is the model as the API names it."""

    text: str
    finish: str | None = None
    refusal: str | None = None
    tokens: tuple[Token, ...] = ()
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True)
class Form:
    """The last line that a judge must end with: a head, and one of these words, each with what it counts."""

    head: str
    words: Mapping[str, float]
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        words = "|".join(map(re.escape, self.words))
        line = rf"{EMPHASIS}{re.escape(self.head)}:{EMPHASIS} {EMPHASIS}({words})([*_.]*)"
        object.__setattr__(self, "pattern", re.compile(line))

    def match(self, line: str) -> tuple[str, int] | None:
        """The word of a last line and where in it the word begins; None for a line of any other form."""
        found = self.pattern.fullmatch(line)
        if found is None:
            return None
        before, after_head, before_word, word, end = found.groups()
        opened = before_word + before if not after_head else before_word  # what the end of the line has to close
        closed = after_head in ("", before) and end.replace(".", "", 1) == opened
        return (word, found.start(4)) if closed else None


VERDICT = Form("VERDICT", {"A": 1.0, "B": 0.0, "TIE": 0.5})
"""Preference for the answer shown first."""

SCORE = Form("SCORE", {str(score): float(score) for score in range(1, 6)})


@dataclass(frozen=True)
class Reading:
    """What a reply counts, and what that was read from."""

    value: float
    by: Literal["log-probabilities", "line"]


@dataclass(frozen=True)
class Unread:
    """Why a reply counts nothing. `kind` is the reason without what is this reply's own, such as its last line."""

    reason: str
    kind: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.kind or self.reason)


def read_reply(reply: Reply, form: Form, hide: Callable[[str], str] = str) -> Reading | Unread:
    """The value of a reply's last line: its expectation over log-probabilities where they are known, else the word's own.

    A last line that is no verdict is quoted in the reason, with what `hide` leaves of it.
    """
    if reply.refusal or reply.finish == "content_filter":
        return Unread("the judge refused to answer")
    if not reply.text.strip():
        return Unread("the judge's reply is empty")
    if reply.finish == "length":
        return Unread("the judge's reply was cut off at max_tokens")
    text = reply.text.rstrip()
    last = text.rpartition("\n")[2].strip()
    match = form.match(last)
    if match is None:
        kind = f"the judge's last line is no verdict; expected `{form.head}: ` and one of {', '.join(form.words)}"
        said = hide(" ".join(last.split()))
        if len(said) > QUOTED:
            said = f"{said[: QUOTED - 1]}…"
        return Unread(f"{kind}; it reads {said!r}", kind)
    word, place = match
    chances = _chances(reply.tokens, text, len(text) - len(last) + place, word, form.words)
    if chances is None:
        return Reading(form.words[word], "line")
    mass = sum(chances.values())
    if mass < MIN_MASS:
        kind = "the words of a verdict hold too little of the probability in its place"
        return Unread(f"the words of a verdict hold only {mass:.0%} of the probability in its place", kind)
    return Reading(sum(form.words[each] * chance for each, chance in chances.items()) / mass, "log-probabilities")


def _chances(
    tokens: Sequence[Token], text: str, start: int, word: str, words: Mapping[str, float]
) -> dict[str, float] | None:
    """The probability of each word in the place where `word` begins, at `start` of the text; None where that is not known."""
    whole = "".join(token.token for token in tokens)
    shift = whole.find(text)
    if not tokens or shift < 0 or whole.count(text) != 1:
        return None
    end = 0
    for token in tokens:
        begin, end = end, end + len(token.token)
        if end > start + shift:
            break
    place = start + shift - begin
    head, tail = token.token[:place].strip(), token.token[place + len(word) :].strip()
    chances: dict[str, float] = {}
    seen: set[str] = set()
    for each in (Alternative(token.token, token.logprob), *token.alternatives):
        if each.token in seen:
            continue
        seen.add(each.token)
        found = _word(each.token.strip().removeprefix(head).removesuffix(tail).strip(), words)
        if found is not None:
            chances[found] = chances.get(found, 0.0) + math.exp(each.logprob)
    return chances or None


def _word(piece: str, words: Mapping[str, float]) -> str | None:
    """The one word that begins with a piece of text; None if none does, or several."""
    found = [word for word in words if piece and word.startswith(piece)]
    return found[0] if len(found) == 1 else None
