"""Sources: small files in the formats of the real ones, every kind of bad row, and every kind of bad file."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from harness_plugins.sources.bad_rows import (
    EMPTY,
    IDENTICAL,
    INVALID,
    MISSING,
    NO_DIALOGUE,
    PROMPTLESS,
    ROLE,
    TEMPLATED,
    TRANSCRIPT,
    TYPE,
    UNSHARED,
)
from harness_plugins.sources.conversations import Conversations
from harness_plugins.sources.hh_rlhf import HHRLHF
from harness_plugins.sources.preferences import Preferences
from harness_plugins.sources.prompts import Prompts
from pydantic import ValidationError

import harness
from harness.errors import PlanError
from harness.plan import check, parse_document
from harness.plugins import load_plugins

Rows = Sequence[Mapping[str, Any]]
USER, ASSISTANT = "user", "assistant"


def lines(rows: Rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def load(source: type[harness.Source], folder: Path, rows: Rows) -> harness.Loaded:
    (folder / "rows.jsonl").write_text(lines(rows), encoding="utf-8")
    return source().load(source.Config.model_validate({"path": "rows.jsonl"}), folder)


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def said(prompt: harness.Prompt) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in prompt]


# --- hh-rlhf --------------------------------------------------------------------------------------------------------------

DIALOGUE = "\n\nHuman: Hi there\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"


def test_a_dialogue_is_split_at_its_last_answer(tmp_path: Path) -> None:
    loaded = load(HHRLHF, tmp_path, [{"chosen": f"{DIALOGUE} Because.", "rejected": f"{DIALOGUE} Go away:\n\nnow"}])
    (row,) = loaded.rows
    assert isinstance(row, harness.Preference)
    assert said(row.prompt) == [("user", "Hi there"), ("assistant", "Hello."), ("user", "Why?")]
    assert (row.root, row.chosen, row.rejected) == ("Hi there", "Because.", "Go away:\n\nnow")
    assert loaded.dropped == {}


def test_turns_of_one_speaker_in_a_row_are_joined_in_the_prompt(tmp_path: Path) -> None:
    before = "\n\nHuman: One\n\nHuman: Two\n\nAssistant: A\n\nAssistant: B\n\nHuman: Three\n\nAssistant:"
    (row,) = load(HHRLHF, tmp_path, [{"chosen": f"{before} x", "rejected": f"{before} y"}]).rows
    assert said(row.prompt) == [("user", "One\n\nTwo"), ("assistant", "A\n\nB"), ("user", "Three")]
    assert row.root == "One"


def test_bad_dialogues_are_counted_by_kind(tmp_path: Path) -> None:
    good = {"chosen": f"{DIALOGUE} a", "rejected": f"{DIALOGUE} b"}
    loaded = load(
        HHRLHF,
        tmp_path,
        [
            good,
            {"chosen": f"{DIALOGUE} a"},
            {"chosen": "no turns at all", "rejected": "none"},
            {"chosen": f"lost words {DIALOGUE} a", "rejected": f"lost words {DIALOGUE} b"},
            {"chosen": f"{DIALOGUE} a\n\nHuman: bye", "rejected": f"{DIALOGUE} b\n\nHuman: bye"},
            {"chosen": f"{DIALOGUE} a", "rejected": "\n\nHuman: Other\n\nAssistant: b"},
            {"chosen": f"{DIALOGUE} a", "rejected": f"{DIALOGUE} b\n\nAssistant: c"},
            {"chosen": f"{DIALOGUE} a", "rejected": f"{DIALOGUE}  "},
            {"chosen": f"{DIALOGUE} a", "rejected": f"{DIALOGUE}  a "},
            {"chosen": f"{DIALOGUE} a", "rejected": f"{DIALOGUE} \ud800"},
        ],
    )
    assert loaded.dropped == {MISSING: 1, NO_DIALOGUE: 3, UNSHARED: 2, EMPTY: 1, IDENTICAL: 1, INVALID: 1}
    assert len(loaded.rows) == 1


@pytest.mark.skipif(
    "HARNESS_HH_RLHF" not in os.environ, reason="HARNESS_HH_RLHF names no hh-rlhf file, harmless-base/test.jsonl.gz"
)
def test_the_real_pairs() -> None:
    path = os.environ["HARNESS_HH_RLHF"]
    with gzip.open(path, "rt", encoding="utf-8") as file:
        raw = [json.loads(line) for line in file]
    loaded = HHRLHF().load(HHRLHF.Config(path=path), Path())
    pairs = [row for row in loaded.rows if isinstance(row, harness.Preference)]
    # 2,312 rows of 2,178 roots; 2,307 share their prompt, and 4 of these hold an empty answer.
    assert len(raw) == 2312
    assert len({row["chosen"].partition("\n\nAssistant:")[0] for row in raw}) == 2178
    assert dict(loaded.dropped) == {UNSHARED: 5, EMPTY: 4}
    assert len(pairs) == 2303
    for pair in pairs:
        source = raw[int(pair.id.removeprefix("hh-"))]
        for text, answer in ((source["chosen"], pair.chosen), (source["rejected"], pair.rejected)):
            words = text.replace("\n\nHuman:", " ").replace("\n\nAssistant:", " ").split()
            assert words == [word for message in pair.prompt for word in message.content.split()] + answer.split()


# --- preferences ----------------------------------------------------------------------------------------------------------

FORMATS = {
    "standard, explicit": {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
    "standard, implicit": {"chosen": "The sky is blue.", "rejected": "The sky is green."},
    "conversational, explicit": {
        "prompt": [turn(USER, "The sky is")],
        "chosen": [turn(ASSISTANT, "blue.")],
        "rejected": [turn(ASSISTANT, "green.")],
    },
    "conversational, implicit": {
        "chosen": [turn(USER, "The sky is"), turn(ASSISTANT, "blue.")],
        "rejected": [turn(USER, "The sky is"), turn(ASSISTANT, "green.")],
    },
    "text beside conversations": {
        "prompt": "The sky is",
        "chosen": [turn(USER, "The sky is"), turn(ASSISTANT, "blue.")],
        "rejected": [turn(USER, "The sky is"), turn(ASSISTANT, "green.")],
    },
    "text before answers": {
        "prompt": "The sky is",
        "chosen": [turn(ASSISTANT, "blue.")],
        "rejected": [turn(ASSISTANT, "green.")],
    },
    "messages beside conversations": {
        "prompt": [turn(USER, "The sky is")],
        "chosen": [turn(USER, "The sky is "), turn(ASSISTANT, "blue.")],
        "rejected": [turn(USER, "The sky is"), turn(ASSISTANT, "green.")],
    },
    "messages beside a conversation and an answer": {
        "prompt": [turn(USER, "The sky is")],
        "chosen": [turn(USER, "The sky is"), turn(ASSISTANT, "blue.")],
        "rejected": [turn(ASSISTANT, "green.")],
    },
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_preference(tmp_path: Path, name: str) -> None:
    (row,) = load(Preferences, tmp_path, [FORMATS[name]]).rows
    assert isinstance(row, harness.Preference)
    assert said(row.prompt) == [("user", "The sky is")]
    assert (row.root, row.chosen, row.rejected) == ("The sky is", "blue.", "green.")


RULES, ASKED = turn("system", "Be kind."), turn(USER, "Why?")


@pytest.mark.parametrize(
    ("fields", "before"),
    [
        ({"prompt": "Why?"}, [RULES]),
        ({"prompt": "Why?"}, [RULES, ASKED]),
        ({"prompt": [ASKED]}, [RULES]),
        ({"prompt": [ASKED]}, [RULES, ASKED]),
        ({"prompt": [RULES, ASKED]}, []),
        ({"prompt": [RULES, ASKED]}, [RULES]),
        ({"prompt": [RULES, ASKED]}, [ASKED]),
        ({"prompt": [RULES, ASKED]}, [RULES, ASKED]),
        ({}, [RULES, ASKED]),
        ({"system": " Be kind. ", "prompt": "Why?"}, []),
        ({"system": "Be kind.", "prompt": [ASKED]}, []),
        ({"system": "Be kind."}, [ASKED]),
        ({"system": "Be rude.", "prompt": [RULES, ASKED]}, []),
        ({"system": "Be rude.", "prompt": "Why?"}, [RULES]),
    ],
)
def test_a_system_message_stands_first_and_the_prompt_once(
    tmp_path: Path, fields: dict[str, Any], before: list[dict[str, str]]
) -> None:
    answers = {"chosen": [*before, turn(ASSISTANT, "a")], "rejected": [*before, turn(ASSISTANT, "b")]}
    (row,) = load(Preferences, tmp_path, [fields | answers]).rows
    assert isinstance(row, harness.Preference)
    assert said(row.prompt) == [("system", "Be kind."), ("user", "Why?")]
    assert (row.root, row.chosen, row.rejected) == ("Why?", "a", "b")


def test_only_a_prompt_that_is_repeated_whole_stands_once(tmp_path: Path) -> None:
    prompt = [ASKED, turn(ASSISTANT, "So."), ASKED]
    row = {"prompt": prompt, "chosen": [*prompt, turn(ASSISTANT, "a")], "rejected": [turn(ASSISTANT, "b")]}
    other = {"prompt": prompt[:1], "chosen": [turn(USER, "How?"), turn(ASSISTANT, "a")]}
    loaded = load(Preferences, tmp_path, [row, other | {"rejected": [turn(USER, "How?"), turn(ASSISTANT, "b")]}])
    assert [[text for _, text in said(each.prompt)] for each in loaded.rows] == [["Why?", "So.", "Why?"], ["Why?", "How?"]]


SOURCES: list[tuple[type[harness.Source], dict[str, Any]]] = [
    (Preferences, {"chosen": "a", "rejected": "b"}),
    (Conversations, {"completion": "a"}),
    (Prompts, {}),
]


@pytest.mark.parametrize(("source", "answers"), SOURCES)
def test_a_system_column_is_the_first_message_of_the_prompt(
    tmp_path: Path, source: type[harness.Source], answers: dict[str, str]
) -> None:
    rows = [answers | {"prompt": "Why?", "system": system} for system in ("Be kind.", " ", "", None)]
    prompts = [said(row.prompt) for row in load(source, tmp_path, rows).rows]
    assert prompts == [[("system", "Be kind."), ("user", "Why?")], *[[("user", "Why?")]] * 3]


def test_a_system_column_belongs_to_whole_conversations_too(tmp_path: Path) -> None:
    reply = turn(ASSISTANT, "a")
    rows = [{"system": "Be brief.", "messages": [*before, ASKED, reply]} for before in ([], [RULES])]
    loaded = load(Conversations, tmp_path, [*rows, {"system": "Be brief.", "messages": [reply]}])
    assert [said(row.prompt)[0] for row in loaded.rows] == [("system", "Be brief."), ("system", "Be kind.")]
    assert loaded.dropped == {PROMPTLESS: 1}, "a system text alone is no prompt"


REPLIES = {"chosen": [turn(ASSISTANT, "a")], "rejected": [turn(ASSISTANT, "b")]}
BLANK = [turn(USER, " ")]


@pytest.mark.parametrize(
    ("source", "row"),
    [
        (Preferences, REPLIES | {"prompt": "  "}),
        (Preferences, REPLIES | {"prompt": BLANK}),
        (Preferences, REPLIES | {"prompt": [RULES, *BLANK]}),
        (Preferences, {field: BLANK + answer for field, answer in REPLIES.items()}),
        (Conversations, {"prompt": " ", "completion": "a"}),
        (Conversations, {"prompt": BLANK, "completion": "a"}),
        (Conversations, {"messages": [*BLANK, turn(ASSISTANT, "a")]}),
        (Prompts, {"prompt": BLANK}),
        (Prompts, {"prompt": BLANK, "system": "Be kind."}),
        (Prompts, {"prompt": [ASKED, turn(ASSISTANT, "So."), *BLANK]}),
    ],
)
def test_an_empty_prompt_is_told_by_every_source(tmp_path: Path, source: type[harness.Source], row: dict[str, Any]) -> None:
    with pytest.raises(harness.DataError, match=r"rows.jsonl:1: (the last message of )?prompt is empty \(.* 1 no prompt\)"):
        load(source, tmp_path, [row])


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "answers"),
    [
        ("Q? Paris", "Q? Parma", "Q?", ("Paris", "Parma")),  # not cut inside a word
        ("Q? It is a", "Q? It is b", "Q? It is", ("a", "b")),  # common first words go to the prompt, as in TRL
        ("Q?\na", "Q?\nb", "Q?", ("a", "b")),
        ("Q? a b", "Q? a", "Q?", ("a b", "a")),
    ],
)
def test_a_shared_prompt_ends_at_white_space(
    tmp_path: Path, chosen: str, rejected: str, prompt: str, answers: tuple[str, str]
) -> None:
    (row,) = load(Preferences, tmp_path, [{"chosen": chosen, "rejected": rejected}]).rows
    assert isinstance(row, harness.Preference)
    assert (row.prompt[0].content, (row.chosen, row.rejected)) == (prompt, answers)


def test_bad_preferences_are_counted_by_kind(tmp_path: Path) -> None:
    good = {"prompt": "Q", "chosen": "a", "rejected": "b"}
    bad: list[dict[str, Any]] = [
        {"prompt": "Q", "chosen": "a"},
        {"prompt": "", "chosen": "a", "rejected": "b"},
        {"prompt": 5, "chosen": "a", "rejected": "b"},
        {"prompt": "Q", "chosen": ["a"], "rejected": ["b"]},
        {"chosen": [turn("judge", "a")], "rejected": [turn(ASSISTANT, "b")]},
        {"chosen": [turn(ASSISTANT, "a")], "rejected": [turn(ASSISTANT, "b")]},
        {"prompt": [turn(USER, "Q")], "chosen": [turn(USER, "a")], "rejected": [turn(USER, "b")]},
        {**good, "rejected": " "},
        {**good, "rejected": " a "},
        {"chosen": "same", "rejected": "same"},
        {"chosen": "one", "rejected": "two"},
        {"chosen": [turn(USER, "Q"), turn(ASSISTANT, "a")], "rejected": [turn(USER, "R"), turn(ASSISTANT, "b")]},
        {**good, "margin": float("nan")},
        {**good, "margin": 10**400},
        {**good, "chosen": "\ud800"},
    ]
    loaded = load(Preferences, tmp_path, [good, *bad])
    assert loaded.dropped == {
        MISSING: 1, PROMPTLESS: 2, TYPE: 2, ROLE: 2, EMPTY: 1, IDENTICAL: 2, UNSHARED: 2, INVALID: 3
    }  # fmt: skip
    assert len(loaded.rows) == 1


def test_what_a_row_says_of_itself_is_kept(tmp_path: Path) -> None:
    row = {"id": 7, "prompt": "Q", "chosen": "a", "rejected": "b", "margin": 2, "category": "x", "other": 1}
    (found,) = load(Preferences, tmp_path, [row]).rows
    assert isinstance(found, harness.Preference)
    assert (found.id, found.margin, found.category) == ("7", 2.0, "x")


def test_rows_that_share_an_id_are_told_apart(tmp_path: Path) -> None:
    rows = [{"id": each, "prompt": "Q", "chosen": "a", "rejected": f"b{n}"} for n, each in enumerate(["x", "x", None, "x"])]
    assert [row.id for row in load(Preferences, tmp_path, rows).rows] == ["x", "x-row-1", "row-000002", "x-row-3"]


def test_the_root_is_the_first_user_turn(tmp_path: Path) -> None:
    prompt = [turn("system", "Be kind."), turn(USER, "First"), turn(ASSISTANT, "x"), turn(USER, "Second")]
    row = {"prompt": prompt, "chosen": [turn(ASSISTANT, "a")], "rejected": [turn(ASSISTANT, "b")]}
    assert load(Preferences, tmp_path, [row]).rows[0].root == "First"


# --- conversations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [turn("user", "Hi"), turn("assistant", "Hello"), turn("user", "Why?"), turn("assistant", "So.")]},
        {"prompt": [turn("user", "Hi"), turn("assistant", "Hello"), turn("user", "Why?")], "completion": "So."},
        {
            "prompt": [turn("user", "Hi"), turn("assistant", "Hello"), turn("user", "Why?")],
            "completion": [turn("assistant", "So.")],
        },
    ],
)
def test_the_last_answer_of_a_conversation_is_learned(tmp_path: Path, row: dict[str, Any]) -> None:
    (read_back,) = load(Conversations, tmp_path, [row]).rows
    assert said(read_back.prompt) == [("user", "Hi"), ("assistant", "Hello"), ("user", "Why?")]
    assert read_back.answer == "So."
    assert read_back.root == "Hi"


def test_bad_conversations_are_counted_by_kind(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Hi", "completion": "Hello"},
        {"prompt": "Hi", "completion": " "},
        {"prompt": "Hi"},
        {"messages": [turn("user", "Hi")]},
        {"messages": [turn("assistant", "Hello")]},
        {"messages": "Hi"},
    ]
    loaded = load(Conversations, tmp_path, rows)
    assert [row.answer for row in loaded.rows] == ["Hello"]
    assert loaded.dropped == {EMPTY: 1, MISSING: 1, ROLE: 1, PROMPTLESS: 1, TYPE: 1}


# --- prompts --------------------------------------------------------------------------------------------------------------


def test_prompts_are_text_or_messages(tmp_path: Path) -> None:
    chat = [turn("system", "Be kind."), turn(USER, "Why?")]
    loaded = load(Prompts, tmp_path, [{"prompt": " Why? ", "category": "c"}, {"prompt": chat}, {"text": "Why?"}, {"prompt": " "},
                                      {"prompt": [turn(ASSISTANT, "Because.")]}, {"prompt": []}])  # fmt: skip
    assert [said(row.prompt) for row in loaded.rows] == [[("user", "Why?")], [("system", "Be kind."), ("user", "Why?")]]
    assert [(row.root, row.category) for row in loaded.rows] == [("Why?", "c"), ("Why?", None)]
    assert loaded.dropped == {MISSING: 1, PROMPTLESS: 2, ROLE: 1}


# --- what is said of a bad row ---------------------------------------------------------------------------------------------

CHAT, REPLY = [turn(USER, "Q")], [turn(ASSISTANT, "a")]
USED_TO_BE_MISSING = [
    (Preferences, {"text": "a"}, "has text; a preference has chosen, rejected and mostly prompt", MISSING),
    (Preferences, {"messages": CHAT, "chosen": None}, "has messages; a preference has chosen,", MISSING),
    (Preferences, {}, "has no field; a preference has", MISSING),
    (Preferences, {"prompt": 1, "chosen": 2, "rejected": 3}, "chosen is a number; expected text or chat messages", TYPE),
    (Preferences, {"prompt": 1, "chosen": "a", "rejected": "b"}, "prompt is a number; expected text as in chosen", TYPE),
    (Preferences, {"prompt": CHAT, "chosen": "a", "rejected": "b"}, "prompt is a list; expected text as in chosen", TYPE),
    (Preferences, {"chosen": "a", "rejected": REPLY}, "chosen is text and rejected is a list; expected text, or", TYPE),
    (Preferences, {"chosen": ["a"], "rejected": REPLY}, "chosen.0 is text; expected a chat message, with role and", TYPE),
    (Preferences, {"prompt": [turn("usr", "Q")], "chosen": REPLY, "rejected": REPLY},
     "prompt.0.role is 'usr'; expected system, user or assistant", ROLE),
    (Preferences, {"prompt": [{"role": USER, "text": "Q"}], "chosen": REPLY, "rejected": REPLY},
     "prompt.0 has role, text; a chat message has role and content", MISSING),
    (Preferences, {"prompt": [{"role": USER, "content": 5}], "chosen": REPLY, "rejected": REPLY},
     "prompt.0.content is a number; expected text", TYPE),
    (Preferences, {"prompt": CHAT, "chosen": CHAT, "rejected": REPLY}, "the last message of chosen is the user's;", ROLE),
    (Preferences, {"chosen": REPLY, "rejected": REPLY}, "chosen is one message and there is no prompt; expected", PROMPTLESS),
    (Preferences, {"prompt": [], "chosen": REPLY, "rejected": REPLY}, "prompt is an empty list; expected", PROMPTLESS),
    (Preferences, {"prompt": " ", "chosen": "a", "rejected": "b"}, "prompt is empty", PROMPTLESS),
    (Preferences, {"question": "Q", "chosen": "a", "rejected": "b"}, "there is no prompt, and chosen and rejected do not begin "
     "alike; expected prompt; the row has question, chosen, rejected, and `columns` maps fields to other columns", UNSHARED),
    (Preferences, {"question": "Q", "chosen": REPLY, "rejected": REPLY}, "chosen is one message and there is no prompt; expected "
     "prompt, or a chosen that begins with it; the row has question, chosen, rejected, and `columns`", PROMPTLESS),
    (Preferences, {"prompt": "Q", "chosen": "a", "rejected": "b", "margin": "big"}, "margin is text; expected a number", TYPE),
    (Conversations, {"prompt": "Q", "chosen": "a"}, "has prompt, chosen; a conversation has messages, or prompt and", MISSING),
    (Conversations, {"messages": "Q"}, "messages is text; expected chat messages", TYPE),
    (Conversations, {"messages": []}, "messages is an empty list; expected chat messages", EMPTY),
    (Conversations, {"prompt": "Q", "completion": 3}, "completion is a number; expected text or chat messages", TYPE),
    (Conversations, {"messages": CHAT}, "the last message is the user's; expected the assistant's", ROLE),
    (Conversations, {"messages": REPLY}, "no message stands before the answer; expected a prompt", PROMPTLESS),
    (Prompts, {"text": "Q"}, "has text; a row of prompts has prompt", MISSING),
    (Prompts, {"prompt": 5}, "prompt is a number; expected text or chat messages", TYPE),
    (Prompts, {"prompt": REPLY}, "the last message of prompt is the assistant's; expected the user's", ROLE),
    (Prompts, {"prompt": "Q", "system": CHAT}, "system is a list; expected text", TYPE),
    (HHRLHF, {"text": "Q"}, "has text; a pair of hh-rlhf has chosen and rejected", MISSING),
    (HHRLHF, {"chosen": REPLY, "rejected": "b"}, "chosen is a list; expected a dialogue as text", TYPE),
    (HHRLHF, {"chosen": "a", "rejected": "b"}, r"chosen is no dialogue; expected \n\nHuman: first and", NO_DIALOGUE),
]  # fmt: skip
OTHERS = [
    ({"prompt": "Q", "chosen": " ", "rejected": "b"}, "the answer in chosen is empty", EMPTY),
    ({"prompt": "Q", "chosen": "a", "rejected": "b", "margin": float("nan")}, "margin: input should be a finite", INVALID),
    ({"prompt": "Q", "chosen": "\ud800", "rejected": "b"}, r"a text holds half a character, a lone surrogate", INVALID),
]


@pytest.mark.parametrize(
    ("source", "row", "text", "reason"), [*USED_TO_BE_MISSING, *((Preferences, *each) for each in OTHERS)]
)
def test_a_file_without_a_usable_row_names_line_field_and_what_was_expected(
    tmp_path: Path, source: type[harness.Source], row: dict[str, Any], text: str, reason: str
) -> None:
    (tmp_path / "rows.jsonl").write_text("\n" + lines([row, row]), encoding="utf-8")
    with pytest.raises(harness.DataError) as caught:
        source().load(source.Config.model_validate({"path": "rows.jsonl"}), tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'rows.jsonl'}:2: {text}")
    assert str(caught.value).endswith(f" (no usable row: 2 {reason})")
    assert "\n" not in str(caught.value)


def test_the_most_common_fault_is_the_one_that_is_shown(tmp_path: Path) -> None:
    rows = [{"prompt": "Q"}, {"chosen": 1, "rejected": 2}, {"chosen": 3, "rejected": 4}]
    with pytest.raises(
        harness.DataError, match=r"rows.jsonl:2: chosen is a number; .* \(no usable row: 2 wrong type, 1 miss"
    ):
        load(Preferences, tmp_path, rows)


def test_a_row_of_parquet_is_named_by_its_number(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([{"text": "a"}]), tmp_path / "a.parquet")
    with pytest.raises(harness.DataError, match=r"a.parquet: row 1: has text; a preference has"):
        read(tmp_path, "a.parquet")


COLUMNS = {"prompt": "question", "chosen": "rejected", "rejected": "chosen"}


def test_fields_may_stand_in_columns_of_other_names(tmp_path: Path) -> None:
    rows = [{"question": "Q", "prompt": "a template", "chosen": "a", "rejected": "b"}, {"chosen": "a", "rejected": "b"}]
    (tmp_path / "rows.jsonl").write_text(lines(rows), encoding="utf-8")
    loaded = Preferences().load(Preferences.Config(path="rows.jsonl", columns=COLUMNS), tmp_path)
    (row,) = loaded.rows
    assert isinstance(row, harness.Preference)
    assert (row.root, row.chosen, row.rejected) == ("Q", "b", "a")
    assert (loaded.dropped, loaded.unread) == ({UNSHARED: 1}, ("prompt",))
    with pytest.raises(
        harness.DataError,
        match=r"columns: no row of rows.jsonl has 'asked'; the columns are question, prompt, chosen, rejected",
    ):
        Preferences().load(Preferences.Config(path="rows.jsonl", columns={"prompt": "asked"}), tmp_path)


@pytest.mark.parametrize(("source", "field"), [("preferences", "promt"), ("hh-rlhf", "prompt"), ("prompts", "chosen")])
def test_a_field_that_a_source_does_not_have_is_a_problem_of_the_plan(tmp_path: Path, source: str, field: str) -> None:
    (tmp_path / "rows.jsonl").touch()
    text = (
        "name: x\nbase: {type: tiny}\ndata:\n"
        f"  mine:\n    source: {source}\n    path: rows.jsonl\n    columns: {{{field}: question}}\n"
        "stages:\n  sft: {aligner: sft, init: base, data: mine}\n"
    )
    with pytest.raises(PlanError) as caught:
        check(parse_document(text, str(tmp_path / "plan.yaml")), load_plugins().registry())
    hint = {"promt": 'did you mean "prompt"?', "prompt": "there are chosen, rejected, id"}.get(
        field, "there are prompt, system, c"
    )
    assert f"plan.yaml:7: data.mine.columns.{field}: there is no '{field}'; {hint}" in str(caught.value)


def test_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    row = {
        "id": 7,
        "prompt": "Q",
        "chosen": "a",
        "rejected": "b",
        "chosen_score": 0,
        "messages": [],
        "note": None,
        "tools": [],
    }
    assert load(Preferences, tmp_path, [row]).unread == ("chosen_score", "messages")
    assert load(HHRLHF, tmp_path, [{"chosen": f"{DIALOGUE} a", "rejected": f"{DIALOGUE} b", "system": "x"}]).unread == (
        "system",
    )


@pytest.mark.parametrize("extra", [{"tools": [{"type": "function"}]}, {"chat_template_kwargs": {"enable_thinking": False}}])
def test_a_row_that_needs_more_of_the_chat_template_is_not_read_without(tmp_path: Path, extra: dict[str, Any]) -> None:
    loaded = load(Prompts, tmp_path, [{"prompt": "Q"} | extra, {"prompt": "Q"} | dict.fromkeys(extra)])
    assert (len(loaded.rows), loaded.dropped) == (1, {TEMPLATED: 1})
    assert (
        f"rows.jsonl:1: has {next(iter(extra))}, with which a chat template is not filled in here"
        in loaded.examples[TEMPLATED]
    )


SAID = "Human: Hi\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"


@pytest.mark.parametrize("before", ["", "\n\n"])
@pytest.mark.parametrize(
    ("source", "row"),
    [
        (Preferences, {"chosen": f"{SAID} a", "rejected": f"{SAID} b"}),
        (Preferences, {"chosen": f"{SAID} a", "rejected": "Human: Ho"}),
        (Preferences, {"prompt": SAID, "chosen": "a", "rejected": "b"}),
        (Preferences, {"prompt": SAID, **REPLIES}),
        (Conversations, {"prompt": SAID, "completion": "a"}),
        (Prompts, {"prompt": SAID}),
    ],
)
def test_a_transcript_is_no_user_turn(
    tmp_path: Path, source: type[harness.Source], row: dict[str, Any], before: str
) -> None:
    row = {field: before + text if isinstance(text, str) else text for field, text in row.items()}
    with pytest.raises(
        harness.DataError, match=rf"is a transcript .* `source: hh-rlhf` reads such .* \(no usable row: 1 {TRANSCRIPT}\)"
    ):
        load(source, tmp_path, [row])


def test_a_dialogue_may_begin_without_a_blank_line(tmp_path: Path) -> None:
    (row,) = load(HHRLHF, tmp_path, [{"chosen": f"{SAID} a", "rejected": f"{SAID} b"}]).rows
    assert said(row.prompt) == [("user", "Hi"), ("assistant", "Hello."), ("user", "Why?")]


def test_parts_that_are_all_text_are_one_text(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Why"}, {"type": "text", "text": " so?", "image": None}]
    image = [*parts, {"type": "image"}]
    loaded = load(
        Prompts, tmp_path, [{"prompt": [{"role": USER, "content": each}]} for each in (parts, image, [], ["Why"])]
    )
    assert [row.root for row in loaded.rows] == ["Why so?"]
    assert loaded.dropped == {TYPE: 3}
    assert loaded.examples[TYPE].endswith(
        "rows.jsonl:2: prompt.0.content is a list; expected text, or a list of parts that are all text"
    )


@pytest.mark.parametrize(("category", "kept"), [(3, ["3"]), ("x", ["x"]), ([1], [])])
def test_a_category_is_text_or_a_number(tmp_path: Path, category: Any, kept: list[str]) -> None:
    loaded = load(Prompts, tmp_path, [{"prompt": "Q", "category": category}, {"prompt": "Q"}])
    assert [row.category for row in loaded.rows] == [*kept, None]


# --- files ----------------------------------------------------------------------------------------------------------------

ROWS = [{"prompt": f"Q{number}", "chosen": "a", "rejected": "b"} for number in range(3)]


def read(folder: Path, path: str, **options: Any) -> list[str]:
    loaded = Preferences().load(Preferences.Config(path=path, **options), folder)
    return [row.root for row in loaded.rows]


def test_every_kind_of_file_holds_the_same_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "a.jsonl").write_text("\ufeff" + lines(ROWS).replace("\n", "\n\n"), encoding="utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(ROWS).encode()))
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for name, text in {"a.json": json.dumps(ROWS, indent=1), "lines.json": lines(ROWS), "a.csv": CSV.decode()}.items():
        (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    for name in (*(each.name for each in tmp_path.iterdir()), str(tmp_path / "a.jsonl")):
        assert read(tmp_path, name) == ["Q0", "Q1", "Q2"], name


def test_an_object_of_an_array_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([*ROWS, {"text": "a"}], indent=1), encoding="utf-8")
    loaded = Preferences().load(Preferences.Config(path="a.json"), tmp_path)
    # A bracket, and five lines for each of the three rows before it.
    assert loaded.examples[MISSING].startswith(f"{tmp_path / 'a.json'}:17: has text; a preference has")


def test_the_cells_of_a_csv_file_are_text_and_an_empty_one_is_none(tmp_path: Path) -> None:
    text = 'id,prompt,chosen,rejected,margin,category\n7,"Why,\nthen?",a,b,0.5,\n,Q,"a ""so""",b,,3\n,Q,,b,,\n,Q,a,b,big,\n'
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    loaded = Preferences().load(Preferences.Config(path="a.csv"), tmp_path)
    found = [
        (row.id, row.root, row.chosen, row.margin, row.category)
        for row in loaded.rows
        if isinstance(row, harness.Preference)
    ]
    assert found == [("7", "Why,\nthen?", "a", 0.5, None), ("row-000001", "Q", 'a "so"', None, "3")]
    assert loaded.dropped == {MISSING: 1, TYPE: 1}
    assert loaded.examples[MISSING].startswith(f"{tmp_path / 'a.csv'}:5: has prompt, rejected; a preference has")
    assert loaded.examples[TYPE] == f"{tmp_path / 'a.csv'}:6: margin is text; expected a number"


def test_a_folder_of_save_to_disk_is_told(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")

    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)).save_to_disk(tmp_path / "several")
    for folder in ("one", "several"):
        with pytest.raises(
            harness.DataError, match=rf"{folder}: was written by save_to_disk, .* write the data set with to_parquet"
        ):
            read(tmp_path, folder)


SPLIT_NAMES = ["test-00000-of-00001.jsonl", "validation.jsonl", "Eval/a.jsonl", "test_prefs.jsonl", "dev/b/c.jsonl"]


@pytest.mark.parametrize("other", SPLIT_NAMES)
def test_a_folder_of_several_splits_is_not_one_set(tmp_path: Path, other: str) -> None:
    for name in ("train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "testimonials.jsonl", "training.jsonl", other):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(lines(ROWS[:1]), encoding="utf-8")
    with pytest.raises(
        harness.DataError, match=f"data: holds train-00000-of-00002.jsonl and {other}, and all files of a folder"
    ):
        read(tmp_path, "data")
    (tmp_path / "data" / other).unlink()
    assert read(tmp_path, "data") == ["Q0"] * 4


def test_conversations_come_out_of_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([FORMATS["conversational, explicit"]]), tmp_path / "a.parquet")
    assert read(tmp_path, "a.parquet") == ["The sky is"]


def test_a_folder_is_read_whole_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name, row in (("b.jsonl", ROWS[1]), ("a.jsonl", ROWS[0]), ("sub/c.jsonl", ROWS[2])):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(lines([row]), encoding="utf-8")
    (tmp_path / "data" / "README.md").write_text("not data", encoding="utf-8")
    assert read(tmp_path, "data") == ["Q0", "Q1", "Q2"]
    assert read(tmp_path, "data", subset="sub") == ["Q2"]


def test_a_folder_of_part_files_is_read_and_what_is_hidden_is_not(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for folder in ("a.parquet", "b.jsonl", ".ipynb_checkpoints", "_delta_log"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(ROWS[:1]), tmp_path / "data" / "a.parquet" / "part-00000.parquet")
    for name, text in {
        "b.jsonl/part-00000.json": lines(ROWS[1:2]),
        "b.jsonl/_SUCCESS": "",
        "c.jsonl": lines(ROWS[2:]),
        "._c.jsonl": "\0",
        ".ipynb_checkpoints/c-checkpoint.jsonl": lines(ROWS[2:]),
        "_delta_log/00000.json": '{"commitInfo": {}}',
    }.items():
        (tmp_path / "data" / name).write_text(text, encoding="utf-8")
    assert read(tmp_path, "data") == ["Q0", "Q1", "Q2"]
    assert read(tmp_path, "data/a.parquet") == ["Q0"]
    assert read(tmp_path, "data/b.jsonl") == ["Q1"]


def test_a_folder_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    (tmp_path / ".cache" / "_data").mkdir(parents=True)
    (tmp_path / ".cache" / "_data" / "a.jsonl").write_text(lines(ROWS), encoding="utf-8")
    assert read(tmp_path, ".cache", subset="_data") == ["Q0", "Q1", "Q2"]


@pytest.mark.parametrize("path", ["folder", "folder/a.jsonl"])
def test_a_link_to_nothing_is_told(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.jsonl").symlink_to("../gone.jsonl")
    with pytest.raises(harness.DataError, match=r"folder/a.jsonl: is a link to ../gone.jsonl, which is not there or may"):
        read(tmp_path, path)


CSV = b"prompt,chosen,rejected\n" + b"".join(b"Q%d,a,b\n" % number for number in range(3))
TRUNCATED = gzip.compress(lines(ROWS * 500).encode())[:-20]
BAD_FILES = {
    "truncated.jsonl.gz": (TRUNCATED, "truncated.jsonl.gz: cannot be read after line"),
    "corrupt.jsonl.gz": (TRUNCATED[:30] + b"\xff" * 40 + TRUNCATED[70:], "corrupt.jsonl.gz: cannot be read after line"),
    "plain.jsonl.gz": (lines(ROWS).encode(), "plain.jsonl.gz: cannot be read after line 0: Not a gzipped file"),
    "broken.jsonl": (lines(ROWS[:2]).encode() + b'{"prompt": \n', "broken.jsonl:3: not valid JSON: Expecting value"),
    "list.jsonl": (b"[1, 2]\n", "list.jsonl:1: expected a JSON object, not '[1, 2]'"),
    "latin.jsonl": (lines(ROWS).encode() + b'{"prompt": "caf\xe9"}\n', "latin.jsonl:4: not UTF-8; save the file as UTF-8"),
    "latin.jsonl.gz": (gzip.compress(lines(ROWS).encode() + b'"caf\xe9"'), "latin.jsonl.gz:4: not UTF-8; save the file as"),
    "utf16.jsonl": (lines(ROWS).encode("utf-16"), "utf16.jsonl:1: not UTF-8"),
    "deep.jsonl": (b"[" * 100_000, "deep.jsonl:1: cannot be read: "),
    "digits.jsonl": (b'{"id": ' + b"9" * 5000 + b"}", "digits.jsonl:1: cannot be read: "),
    "empty.jsonl": (b"", "empty.jsonl is empty"),
    "blank.jsonl": (b"\n \n", "blank.jsonl is empty"),
    "rows.tsv": (b"prompt\tchosen\n", "rows.tsv: expected a .jsonl, .json or .csv file, plain or .gz, or .parquet file"),
    "rows.csv": (b"prompt,chosen\n", "rows.csv is empty"),
    "short.csv": (CSV + b"Q,a\n", "short.csv:5: has more or fewer cells than there are columns"),
    "long.csv": (CSV + b"Q,a,b,c\n", "long.csv:5: has more or fewer cells than there are columns"),
    "open.csv": (CSV + b'Q,"a,b\n', "open.csv:5: not valid CSV (unexpected end of data)"),
    "latin.csv": (CSV + b"caf\xe9,a,b\n", "latin.csv:5: not UTF-8; save the file as UTF-8"),
    "broken.json": (
        b'[{},\n {"prompt": }]',
        "broken.json:2: not valid JSON: Expecting value; expected an array of objects",
    ),
    "unparted.json": (b"[{}\n {}]", "unparted.json:1: not valid JSON: expected a comma, or ] at the end"),
    "behind.json": (b"[{}] {}", "behind.json:1: not valid JSON: expected a comma, or ] at the end"),
    "unclosed.json": (b"[{}\n", "unclosed.json:1: not valid JSON: expected a comma, or ] at the end"),
    "texts.json": (b'[{},\n "a"]', "texts.json:2: expected a JSON object, not '\"a\"'"),
    "none.json": (b"[ ]\n", "none.json is empty"),
    "latin.json": (b'[{},\n"caf\xe9"]', "latin.json:2: not UTF-8; save the file as UTF-8"),
    "deep.json": (b"[" * 100_000, "deep.json:1: cannot be read: "),
    "bad.parquet": (b"PAR1 is not enough", "bad.parquet: not a readable Parquet file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, name: str) -> None:
    content, text = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(harness.DataError) as caught:
        read(tmp_path, name)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["none.jsonl", "./none", "/none/at/all", "none.parquet"])
def test_a_local_file_that_is_not_there(tmp_path: Path, path: str) -> None:
    with pytest.raises(harness.DataError, match="no such file; paths count from the plan's folder"):
        read(tmp_path, path)


def test_a_folder_without_data(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        harness.DataError, match=r"no .jsonl, .json or .csv file, plain or .gz, or .parquet file in this folder"
    ):
        read(tmp_path, "empty")


@pytest.mark.parametrize("path", ["a.jsonl", "./folder", "~/a", "/a.parquet"])
def test_a_path_that_is_surely_local_has_no_parts(path: str) -> None:
    with pytest.raises(ValidationError, match=r"part: only a Hub data set has parts; name the file instead"):
        Preferences.Config(path=path, part="test")
    Preferences.Config(path=path, part="train")


def test_a_local_folder_has_no_parts_and_a_data_set_of_the_hub_may_have(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.jsonl").write_text(lines(ROWS), encoding="utf-8")
    config = Preferences.Config(path="folder", part="test")
    assert Preferences().missing(config, tmp_path) == (
        "folder is local and has no part 'test'; only a Hub data set has parts; name the file instead"
    )
    assert Preferences().missing(Preferences.Config(path="folder"), tmp_path) is None
    assert Preferences().missing(Preferences.Config(path="owner/name", part="test"), tmp_path) is None
