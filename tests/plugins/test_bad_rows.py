"""What is said of rows that no source can use: where they stand, what they have, and what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness_plugins.sources.bad_rows import (
    EMPTY,
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
from row_files import ASSISTANT, USER, lines, load, turn

import harness

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
        (Preferences, {"prompt": SAID, "chosen": REPLY, "rejected": [turn(ASSISTANT, "b")]}),
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
