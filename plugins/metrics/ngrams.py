"""Word n-grams of one answer."""

from __future__ import annotations

import re

# An apostrophe inside a word belongs to it; every other mark is a token of its own, so that "!!!!" can be seen to repeat.
_TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def words(text: str) -> list[str]:
    """Words and punctuation marks, case-folded. Where a script does not space its words, a run of letters is one token."""
    return _TOKEN.findall(text.casefold())


def distinct_share(text: str, n: int) -> float | None:
    """Distinct n-grams of words divided by all of them, in (0, 1]; None for a text with fewer than n words.

    distinct-n of Li et al. (2016), arXiv:1510.03055, within one text.
    """
    tokens = words(text)
    ngrams = [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else None


def repeated_share(text: str, n: int = 4) -> float | None:
    """Share of the n-grams that occurred before in the same text, in [0, 1); None for a text with fewer than n words.

    seq-rep-n of Welleck et al. (2019), arXiv:1908.04319.
    """
    distinct = distinct_share(text, n)
    return None if distinct is None else 1 - distinct


__all__ = ["distinct_share", "repeated_share", "words"]
