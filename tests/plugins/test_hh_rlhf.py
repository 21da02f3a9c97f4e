"""hh-rlhf: dialogues as text, in the form of the real file, become a prompt with two answers."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from harness_plugins.sources.bad_rows import (
    EMPTY,
    IDENTICAL,
    INVALID,
    MISSING,
    NO_DIALOGUE,
    UNSHARED,
)
from harness_plugins.sources.hh_rlhf import HHRLHF
from row_files import DIALOGUE, load, said

import harness


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


def test_a_dialogue_may_begin_without_a_blank_line(tmp_path: Path) -> None:
    (row,) = load(HHRLHF, tmp_path, [{"chosen": f"{DIALOGUE.lstrip()} a", "rejected": f"{DIALOGUE.lstrip()} b"}]).rows
    assert said(row.prompt) == [("user", "Hi there"), ("assistant", "Hello."), ("user", "Why?")]
