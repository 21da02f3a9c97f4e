"""Checks of verifiable instructions: each function says whether an answer keeps one instruction.

The idea is IFEval's (Zhou et al. 2023, arXiv:2311.07911): an instruction whose keeping a program can decide needs no judge. The
kinds and their wordings are this project's own. Each function gets the answer without outer white space and keyword
parameters, is pure, and raises ValueError for parameters that contradict each other. Counts are bounded by `at_least` and
`at_most`, both inclusive. Typographic quotes and apostrophes are plain ones by then, in answer and parameters, but for `json`.
"""

from __future__ import annotations

import json as json_module
import re
from typing import Annotated, Literal

from pydantic import Field

from .languages import language as language_of

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]

_WORD = re.compile(r"\w+(?:[-'.]\w+)*")
_BULLET = re.compile(r"[ \t]*[-*•+][ \t]+\S")
_NUMBERED = re.compile(r"[ \t]*(\d+)[.)][ \t]+\S")
_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
_BOLD = re.compile(r"\*\*(?=\S)[^*\n]+(?<=\S)\*\*")
_MARKUP = (_BOLD, _FENCE, re.compile(r"^#{1,6} |^[ \t]*[*•+-][ \t]|^\||`", re.MULTILINE))
# A full stop behind these ends no sentence.
_ABBREVIATION = re.compile(r"\b(mr|mrs|ms|dr|st|vs|e\.g|i\.e|[a-z]\.[a-z])\.(?=\s)", re.IGNORECASE)
# `"Stop." and left` goes on behind its quotation.
_SENTENCE_END = re.compile(r"(?<=[.!?…])(?:\s+|[\"')\]*_]+\s+(?![a-z]))|\n+")


def _words(text: str) -> list[str]:
    """Words; a hyphen, an apostrophe or a point inside one does not part it."""
    return _WORD.findall(text)


def _sentences(text: str) -> list[str]:
    """Sentences: what ends in `.`, `!`, `?` or `…`, or at a line break, and holds a letter. A list's item is one."""
    parts = _SENTENCE_END.split(_ABBREVIATION.sub(r"\1", text))
    return [part for part in parts if re.search(r"[^\W\d_]", part)]


def _lines(text: str) -> list[str]:
    """Lines that are not blank, without white space around them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _within(number: int, at_least: int | None, at_most: int | None) -> bool:
    if at_least is None and at_most is None:
        raise ValueError("give at_least, at_most or both")
    if at_least is not None and at_most is not None and at_least > at_most:
        raise ValueError(f"at_least {at_least} is above at_most {at_most}")
    return (at_least is None or number >= at_least) and (at_most is None or number <= at_most)


def _occurrences(text: str, phrase: str) -> int:
    """How often a phrase stands in a text as whole words, in any case."""
    pattern = r"\s+".join(map(re.escape, phrase.split()))
    return len(re.findall(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE))


# --- length ---------------------------------------------------------------------------------------------------------------


def words(answer: str, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """The number of words."""
    return _within(len(_words(answer)), at_least, at_most)


def characters(answer: str, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """The number of characters, spaces included."""
    return _within(len(answer), at_least, at_most)


def sentences(answer: str, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """The number of sentences."""
    return _within(len(_sentences(answer)), at_least, at_most)


def lines(answer: str, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """The number of lines that are not blank."""
    return _within(len(_lines(answer)), at_least, at_most)


def paragraphs(answer: str, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """The number of paragraphs, parted by blank lines."""
    return _within(len([part for part in re.split(r"\n\s*\n", answer) if part.strip()]), at_least, at_most)


def sentence_length(answer: str, at_most: Positive) -> bool:
    """Every sentence has at most so many words."""
    return all(len(_words(sentence)) <= at_most for sentence in _sentences(answer))


def word_length(answer: str, at_most: Positive) -> bool:
    """Every word has at most so many characters."""
    return all(len(word) <= at_most for word in _words(answer))


# --- format ---------------------------------------------------------------------------------------------------------------


def bullets(answer: str, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """The number of lines that begin with a bullet: `-`, `*`, `+` or `•`."""
    return _within(sum(bool(_BULLET.match(line)) for line in answer.splitlines()), at_least, at_most)


def numbered_list(answer: str, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """The number of lines that begin with `1.`, `2.` and so on, or `1)`; they must count up from 1."""
    found = [int(match[1]) for line in answer.splitlines() if (match := _NUMBERED.match(line))]
    return _within(len(found), at_least, at_most) and found == list(range(1, len(found) + 1))


def json(answer: str, keys: Texts | None = None, items: Count | None = None) -> bool:
    """The whole answer is JSON, perhaps in a code block: an object with just these keys, or an array of so many items."""
    if keys is not None and items is not None:
        raise ValueError("give keys (for an object) or items (for an array), not both")
    fenced = _FENCE.fullmatch(answer)
    try:
        value = json_module.loads(fenced[2] if fenced else answer)
    except ValueError:
        return False
    if keys is not None:
        return isinstance(value, dict) and set(value) == set(keys)
    return isinstance(value, list) and len(value) == items if items is not None else isinstance(value, (dict, list))


def table(answer: str, columns: Positive, rows: Positive | None = None) -> bool:
    """A Markdown table with so many columns and, where it is given, so many rows under its head."""
    found = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in _lines(answer)
        if line.startswith("|") or " | " in line
    ]
    if len(found) < 3 or any(len(cells) != columns for cells in found):
        return False
    ruled = all(re.fullmatch(r":?-+:?", cell) for cell in found[1])
    return ruled and (rows is None or len(found) == rows + 2)


def headings(answer: str, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """The number of Markdown headings; a comment in a fenced code block is none."""
    return _within(len(re.findall(r"^#{1,6} \S", _FENCE.sub("", answer), re.MULTILINE)), at_least, at_most)


def code_block(answer: str, language: Text | None = None) -> bool:
    """Exactly one fenced code block; `language` is the word behind the opening fence."""
    found = _FENCE.findall(answer)
    return len(found) == 1 and (language is None or found[0][0].strip().casefold() == language.casefold())


def quoted(answer: str) -> bool:
    """The whole answer stands in double quotes, and no other double quote is in it."""
    return len(answer) > 2 and answer[0] == answer[-1] == '"' and '"' not in answer[1:-1]


def bold(answer: str, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """The number of parts in bold, `**so**`."""
    return _within(len(_BOLD.findall(answer)), at_least, at_most)


def plain(answer: str) -> bool:
    """No Markdown: no heading, bullet, table, bold text or code."""
    return not any(pattern.search(answer) for pattern in _MARKUP)


def placeholders(answer: str, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """The number of different placeholders in square brackets, such as `[name]`."""
    return _within(len(set(re.findall(r"\[[^\[\]\n]+\](?!\()", answer))), at_least, at_most)


def sections(answer: str, separator: Text, count: Positive) -> bool:
    """Lines that hold nothing but the separator part the answer into so many parts, none of them empty."""
    pattern = rf"^[ \t]*{re.escape(separator)}[ \t]*$"
    parts = re.split(pattern, answer, flags=re.MULTILINE)
    return len(parts) == count and all(part.strip() for part in parts)


def labels(answer: str, labels: Texts) -> bool:
    """For each label one line that begins with it and a colon, in this order; bold type and bullets are no matter."""
    starts = [re.sub(r"^[-*•+#\s]+|\*", "", line).casefold() for line in _lines(answer)]
    places = [[place for place, line in enumerate(starts) if line.startswith(f"{each.casefold()}:")] for each in labels]
    found = [place for each in places for place in each]
    return all(len(each) == 1 for each in places) and found == sorted(found)


# --- words ----------------------------------------------------------------------------------------------------------------


def contains(answer: str, phrases: Texts) -> bool:
    """Every phrase occurs, as whole words and in any case."""
    return all(_occurrences(answer, phrase) for phrase in phrases)


def avoids(answer: str, phrases: Texts) -> bool:
    """No phrase occurs, as whole words and in any case."""
    return not any(_occurrences(answer, phrase) for phrase in phrases)


def occurrences(answer: str, phrase: Text, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """How often a phrase occurs, as whole words and in any case."""
    return _within(_occurrences(answer, phrase), at_least, at_most)


def in_order(answer: str, phrases: Texts) -> bool:
    """Every phrase occurs, the first time each in this order."""
    places = [re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", answer, re.IGNORECASE) for phrase in phrases]
    starts = [place.start() for place in places if place]
    return len(starts) == len(phrases) and starts == sorted(starts)


def starts_with(answer: str, text: Text) -> bool:
    """The answer begins with exactly this text."""
    return answer.startswith(text)


def ends_with(answer: str, text: Text) -> bool:
    """The answer ends with exactly this text."""
    return answer.endswith(text)


def lines_start_with(answer: str, text: Text) -> bool:
    """Every line that is not blank begins with exactly this text, and there are at least two."""
    found = _lines(answer)
    return len(found) > 1 and all(line.startswith(text) for line in found)


# --- letters and case -----------------------------------------------------------------------------------------------------


def avoids_characters(answer: str, characters: Text) -> bool:
    """None of these characters occurs, in either case."""
    return not set(characters.casefold()) & set(answer.casefold())


def initial(answer: str, letter: Annotated[str, Field(min_length=1, max_length=1)]) -> bool:
    """Every word begins with this letter, in either case."""
    return bool(_words(answer)) and all(word.casefold().startswith(letter.casefold()) for word in _words(answer))


def acrostic(answer: str, word: Text) -> bool:
    """The first letters of the lines spell this word, in any case; marks before a letter are no matter."""
    initials = [match[0] for line in _lines(answer) if (match := re.search(r"[^\W\d_]", line))]
    return "".join(initials).casefold() == word.casefold()


def upper_case(answer: str) -> bool:
    """No lower-case letter."""
    return answer == answer.upper()


def lower_case(answer: str) -> bool:
    """No capital letter."""
    return answer == answer.lower()


def capital_words(answer: str, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """The number of words of two letters or more in capitals throughout."""
    return _within(sum(len(word) > 1 and word.isupper() for word in _words(answer)), at_least, at_most)


def capitalised(answer: str) -> bool:
    """Every word begins with a capital letter, if it begins with a letter."""
    return bool(_words(answer)) and not any(word[0].islower() for word in _words(answer))


# --- structure and language -----------------------------------------------------------------------------------------------


def one_of(answer: str, options: Texts) -> bool:
    """The answer is one of these and nothing more, in any case; full stops behind either are no matter."""
    return answer.rstrip(".").casefold() in {option.rstrip(".").casefold() for option in options}


def sorted_lines(answer: str) -> bool:
    """At least two lines, in alphabetical order; bullets and numbers before an item are no matter."""
    items = [re.sub(r"^(?:[-*•+]|\d+[.)])\s+", "", line).casefold() for line in _lines(answer)]
    return len(items) > 1 and items == sorted(items)


def comma_list(answer: str, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """One line, with so many items parted by commas, none of them empty."""
    items = [item.strip(" .") for item in answer.split(",")]
    return _within(len(items), at_least, at_most) and "\n" not in answer and all(items)


def questions(answer: str, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """The number of sentences that end in a question mark."""
    return _within(len(re.findall(r"\?[!?]*", answer)), at_least, at_most)


def numbers(answer: str, at_least: Count | None = None, at_most: Count | None = None) -> bool:
    """The number of numbers in digits; `3.5` and `1,000` are one each."""
    return _within(len(re.findall(r"\d+(?:[.,:]\d+)*", answer)), at_least, at_most)


def language(answer: str, language: Literal["de", "en", "es", "fr", "it", "nl", "pt"]) -> bool:
    """The answer is in this language, as far as function words tell (`languages`); a short one tells nothing and fails."""
    return language_of(answer) == language
