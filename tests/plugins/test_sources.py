"""What becomes of a row of preferences, of a conversation and of a prompt, in the formats of the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness_plugins.sources.bad_rows import (
    EMPTY,
    IDENTICAL,
    INVALID,
    MISSING,
    PROMPTLESS,
    ROLE,
    TYPE,
    UNSHARED,
)
from harness_plugins.sources.conversations import Conversations
from harness_plugins.sources.hh_rlhf import HHRLHF
from harness_plugins.sources.preferences import Preferences
from harness_plugins.sources.prompts import Prompts
from row_files import ASSISTANT, DIALOGUE, USER, lines, load, said, turn

import harness
from harness.errors import PlanError
from harness.plan import check, parse_document
from harness.plugins import load_plugins

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


def test_conversations_come_out_of_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([FORMATS["conversational, explicit"]]), tmp_path / "a.parquet")
    (row,) = Preferences().load(Preferences.Config(path="a.parquet"), tmp_path).rows
    assert row.root == "The sky is"


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
