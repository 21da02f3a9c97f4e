"""What counts as a verdict: log-probabilities in its place, or the very last line in its exact form, and nothing else."""

from __future__ import annotations

import math

import pytest
from harness_plugins.judges.llm_verdict import (
    SCORE,
    VERDICT,
    Alternative,
    Reading,
    Reply,
    Token,
    Unread,
    read_reply,
)


def tokens(*pieces: str, last: dict[str, float]) -> tuple[Token, ...]:
    """Tokens with these texts; the last one has these alternatives with their probabilities."""
    *before, final = pieces
    chances = tuple(Alternative(text, math.log(chance)) for text, chance in last.items())
    return (*(Token(piece, -0.01) for piece in before), Token(final, math.log(last.get(final, 0.01)), chances))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("VERDICT: A", 1.0),
        ("VERDICT: B", 0.0),
        ("VERDICT: TIE", 0.5),
        ("Both are good.\nVERDICT: B\n", 0.0),
        ("VERDICT: A\nNo, wait.\nVERDICT: B", 0.0),
        ("  VERDICT: A  ", 1.0),
        ("VERDICT: B.", 0.0),
        ("**VERDICT: A**", 1.0),
        ("Both are good.\n\n__VERDICT: TIE__", 0.5),
        ("*VERDICT: B*", 0.0),
        ("**VERDICT: B.**", 0.0),
        ("**VERDICT: B**.", 0.0),
        ("**VERDICT:** A", 1.0),
        ("VERDICT: **A**", 1.0),
        ("VERDICT: **A**.", 1.0),
    ],
)
def test_the_last_line_is_the_verdict(text: str, value: float) -> None:
    assert read_reply(Reply(text), VERDICT) == Reading(value, "line")


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "VERDICT: C",
        "verdict: A",
        "Verdict: A",
        "VERDICT:A",
        "VERDICT: A..",
        "VERDICT: A!",
        "**VERDICT: A",
        "VERDICT: A**",
        "VERDICT:** A",
        "**VERDICT: A__",
        "**verdict: A**",
        "**VERDICT: C**",
        "# VERDICT: A",
        "`VERDICT: A`",
        "VERDICT: A or B",
        "VERDICT: A\nor so",
        "VERDICT: A VERDICT: B",
        "the answer says VERDICT: A",
        '{"verdict": "A"}',
        "VERDICT: TIE\n\nVERDICT:",
    ],
)
def test_everything_else_is_unread(text: str) -> None:
    assert isinstance(read_reply(Reply(text), VERDICT), Unread)


@pytest.mark.parametrize(
    ("last", "quoted"),
    [
        ("I prefer the first answer.", "'I prefer the first answer.'"),
        ("  <b>A\t is \x1b[31mbetter</b>", r"'<b>A is \x1b[31mbetter</b>'"),
        ("A" * 80, f"'{'A' * 80}'"),
        ("A" * 81, f"'{'A' * 79}…'"),
    ],
)
def test_a_last_line_that_is_no_verdict_is_quoted(last: str, quoted: str) -> None:
    kind = "the judge's last line is no verdict; expected `VERDICT: ` and one of A, B, TIE"
    assert read_reply(Reply(f"VERDICT: A\n{last}\n"), VERDICT) == Unread(f"{kind}; it reads {quoted}", kind)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(""), "the judge's reply is empty"),
        (Reply(" \n"), "the judge's reply is empty"),
        (Reply("VERDICT: A", refusal="no"), "the judge refused to answer"),
        (Reply("VERDICT: A", finish="content_filter"), "the judge refused to answer"),
        (Reply("VERDICT: A", finish="length"), "the judge's reply was cut off at max_tokens"),
    ],
)
def test_a_reply_that_did_not_end_well_counts_nothing(reply: Reply, reason: str) -> None:
    assert read_reply(reply, VERDICT) == Unread(reason)


def test_log_probabilities_weigh_all_verdicts() -> None:
    # (0.6 · 1 + 0.1 · 0.5) / (0.6 + 0.2 + 0.1): what other tokens would have said is left out.
    read = tokens("VERDICT", ":", " A", last={" A": 0.6, " B": 0.2, " TIE": 0.1, " Both": 0.1})
    reading = read_reply(Reply("VERDICT: A", tokens=read), VERDICT)
    assert reading == Reading(pytest.approx(0.65 / 0.9), "log-probabilities")


def test_the_same_word_in_two_spellings_of_a_token_adds_up() -> None:
    read = tokens("VERDICT:", " ", "A", last={"A": 0.5, " A": 0.1, "B": 0.4})
    assert read_reply(Reply("VERDICT: A", tokens=read), VERDICT) == Reading(pytest.approx(0.6), "log-probabilities")


def test_a_tie_is_read_from_its_first_token() -> None:
    read = (*tokens("VERDICT", ":", " T", last={" T": 0.8, " B": 0.2}), Token("IE", -0.01))
    assert read_reply(Reply("VERDICT: TIE", tokens=read), VERDICT) == Reading(pytest.approx(0.4), "log-probabilities")


def test_a_token_may_hold_the_colon_too() -> None:
    read = tokens("VERDICT", ": A", last={": A": 0.7, ": B": 0.3})
    assert read_reply(Reply("VERDICT: A", tokens=read), VERDICT) == Reading(pytest.approx(0.7), "log-probabilities")


def test_the_place_is_the_last_verdict_and_not_one_before() -> None:
    text = "VERDICT: B\nVERDICT: A"
    first = tokens("VERDICT:", " B", last={" B": 0.99, " A": 0.01})
    read = (*first, Token("\n", -0.01), *tokens("VERDICT:", " A", last={" A": 0.9, " B": 0.1}))
    assert read_reply(Reply(text, tokens=read), VERDICT) == Reading(pytest.approx(0.9), "log-probabilities")


def test_tokens_that_do_not_spell_the_reply_are_left_aside() -> None:
    read = tokens("VERDICT:", " B", last={" B": 0.99, " A": 0.01})
    assert read_reply(Reply("VERDICT: A", tokens=read), VERDICT) == Reading(1.0, "line")


def test_words_that_hold_little_probability_are_no_verdict() -> None:
    read = tokens("VERDICT:", " A", last={" I": 0.7, " A": 0.2, " B": 0.1})
    reading = read_reply(Reply("VERDICT: A", tokens=read), VERDICT)
    assert isinstance(reading, Unread)
    assert reading.reason == "the words of a verdict hold only 30% of the probability in its place"
    assert "30%" not in reading.kind


def test_an_end_token_after_the_verdict_does_no_harm() -> None:
    read = (*tokens("VERDICT:", " A", last={" A": 0.9, " B": 0.1}), Token("<|end|>", -0.01))
    assert read_reply(Reply("VERDICT: A", tokens=read), VERDICT) == Reading(pytest.approx(0.9), "log-probabilities")


@pytest.mark.parametrize(
    ("pieces", "chances"),
    [
        (("VERDICT:", " A", "."), {" A": 0.9, " B": 0.1}),
        (("**", "VERDICT:", " A", "**"), {" A": 0.9, " B": 0.1}),
        (("**VERDICT", ": A**"), {": A**": 0.9, ": B**": 0.1}),
        (("VERDICT:", " **", "A.**"), {"A.**": 0.9, "B.**": 0.1}),
    ],
)
def test_emphasis_and_a_full_stop_do_not_hide_log_probabilities(pieces: tuple[str, ...], chances: dict[str, float]) -> None:
    place = max(number for number, piece in enumerate(pieces) if "A" in piece)
    before, after = pieces[: place + 1], pieces[place + 1 :]
    read = (*tokens(*before, last=chances), *(Token(piece, -0.01) for piece in after))
    assert read_reply(Reply("".join(pieces), tokens=read), VERDICT) == Reading(pytest.approx(0.9), "log-probabilities")


def test_a_score_is_the_expectation_over_the_digits() -> None:
    # 3 · 0.25 + 4 · 0.5 + 5 · 0.25
    read = tokens("SCORE", ":", " ", "4", last={"4": 0.5, "3": 0.25, "5": 0.25})
    assert read_reply(Reply("SCORE: 4", tokens=read), SCORE) == Reading(pytest.approx(4.0), "log-probabilities")
    read = tokens("SCORE: ", "4", last={"4": 0.5, "1": 0.5})
    assert read_reply(Reply("SCORE: 4", tokens=read), SCORE) == Reading(pytest.approx(2.5), "log-probabilities")


@pytest.mark.parametrize("text", ["SCORE: 0", "SCORE: 6", "SCORE: 4.5.", "SCORE: 4.5", "SCORE: 45", "4", "SCORE: 4/5"])
def test_what_is_off_the_scale_is_no_score(text: str) -> None:
    assert isinstance(read_reply(Reply(text), SCORE), Unread)
