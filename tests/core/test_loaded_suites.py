"""Suites: each different prompt once, all preferences behind them, and files of one's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import Dataset, Message, Preference
from harness.errors import DataError, UsageError
from harness.evaluation.suites import load_suite
from harness.plan.model import Suite


def preference(identity: str, prompt: str) -> Preference:
    turns = (Message(role="user", content=prompt),)
    return Preference(id=identity, root=prompt, prompt=turns, chosen="a", rejected="b", expect="refuse", category="c")


def data(*rows: Preference) -> Any:
    return SimpleNamespace(get=lambda reference: Dataset(reference, "preferences", rows, "fingerprint"))


def test_a_prompt_that_stands_twice_is_answered_once_and_its_pairs_are_kept(tmp_path: Path) -> None:
    source = data(
        preference("1", "Why?"),
        preference("2", "How?"),
        preference("3", "Why?"),
        preference("4", "When?"),
        preference("5", "Who?"),
    )
    suite = load_suite("heldout", Suite(data="hh.test", limit=3), source, tmp_path)
    assert [(row.id, row.root, row.expect, row.category) for row in suite.rows] == [
        ("1", "Why?", "refuse", "c"),
        ("2", "How?", "refuse", "c"),
        ("4", "When?", "refuse", "c"),
    ]
    assert [row.id for row in suite.preferences] == ["1", "2", "3", "4", "5"], "the limit is on prompts, not on pairs"


def test_the_packaged_suites_load(tmp_path: Path) -> None:
    rows = load_suite("safety", Suite(suite="safety"), data(), tmp_path).rows
    assert {row.expect for row in rows} == {"answer", "refuse"}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", DataError, "holds no prompt"),
        ('{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}\n', DataError, "'a' stands twice"),
        ('{"id": "a", "prompt": "x"}\n{"id": "b"}\n', UsageError, "mine.jsonl:2: prompt"),
    ],
)
def test_a_bad_file_of_prompts_is_named_with_what_is_wrong(
    tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "mine.jsonl").write_text(text)
    with pytest.raises(error, match=message):
        load_suite("mine", Suite(path="mine.jsonl"), data(), tmp_path)
