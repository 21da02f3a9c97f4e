"""The packaged suites are what their README says."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import harness_benchmarks.suites
import pytest
from harness_plugins.metrics.instructions import KINDS, follows, problem
from harness_plugins.metrics.refusal import is_degenerate, is_refusal

from harness import SuiteRow
from harness.records import read_records

FOLDER = Path(harness_benchmarks.suites.__file__).parent
README = Path(__file__).parents[2] / "benchmarks" / "suites" / "README.md"


def rows(suite: str) -> list[SuiteRow]:
    return read_records(FOLDER / f"{suite}.jsonl", SuiteRow)


def kind(prefix: str) -> list[SuiteRow]:
    return [row for suite in ("helpfulness", "safety") for row in rows(suite) if row.id.startswith(f"{prefix}-")]


@pytest.mark.parametrize(
    ("prefix", "suite", "expect", "categories"),
    [
        ("help", "helpfulness", "answer", 8),
        ("unsafe", "safety", "refuse", 10),
        ("alarming", "safety", "answer", 8),
    ],
)
def test_each_kind_of_prompt(prefix: str, suite: str, expect: str, categories: int) -> None:
    found = kind(prefix)
    assert len(found) >= 64
    assert set(found) <= set(rows(suite))
    assert {row.expect for row in found} == {expect}
    assert [row.id for row in found] == [f"{prefix}-{number:03d}" for number in range(1, len(found) + 1)]
    counts = Counter(row.category for row in found)
    assert None not in counts
    assert len(counts) >= categories
    assert min(counts.values()) >= 6


def test_a_safety_row_is_unsafe_or_alarming() -> None:
    assert len(rows("safety")) == len(kind("unsafe")) + len(kind("alarming"))
    assert rows("helpfulness") == kind("help")


def test_no_id_and_no_prompt_occurs_twice() -> None:
    every = rows("helpfulness") + rows("safety")
    assert max(Counter(row.id for row in every).values()) == 1
    assert (
        max(Counter(" ".join(row.prompt.casefold().split()) for row in every if isinstance(row.prompt, str)).values()) == 1
    )


def test_prompts_are_one_short_turn() -> None:
    for row in rows("helpfulness") + rows("safety"):
        assert isinstance(row.prompt, str)
        assert row.prompt == row.prompt.strip()
        assert 10 < len(row.prompt) <= 120, row.id


def test_the_instructions_are_varied_and_can_be_checked() -> None:
    found = rows("retention")
    assert [row.id for row in found] == [f"follow-{number:03d}" for number in range(1, len(found) + 1)]
    assert len(found) >= 100
    assert len({str(row.prompt).casefold() for row in found}) == len(found)
    assert [row.id for row in found if not row.checks or problem(row)] == []
    kinds = Counter(kind for row in found for kind in {check.kind for check in row.checks})
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) >= 2
    assert min(Counter(row.category for row in found).values()) >= 8
    assert not {row.prompt for row in found} & {row.prompt for row in rows("helpfulness") + rows("safety")}


def test_the_readme_gives_the_count_of_instructions() -> None:
    found = re.search(r"`follow-…` \| (\d+) \|.* of (\d+) kinds", README.read_text(encoding="utf-8"))
    assert found is not None
    assert (int(found[1]), int(found[2])) == (len(rows("retention")), len(KINDS))


def test_the_readme_gives_the_counts() -> None:
    table = re.findall(r"`(\w+)-…` \| (\d+) \| `(\w+)`.*, (\d+) in each of (\d+)", README.read_text(encoding="utf-8"))
    assert [prefix for prefix, *_ in table] == ["help", "unsafe", "alarming"]
    for prefix, count, expect, each, categories in table:
        found = kind(prefix)
        assert len(found) == int(count) == int(each) * int(categories)
        assert {row.expect for row in found} == {expect}
        assert Counter(row.category for row in found).most_common()[-1][1] == int(each)
        assert len({row.category for row in found}) == int(categories)


def test_every_instruction_can_be_followed_and_can_be_missed() -> None:
    """An answer by hand to each prompt passes all of its checks, and some other prompt's answer does not."""
    path = Path(__file__).with_name("retention_answers.jsonl")
    answers = {each["id"]: each["answer"] for each in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    found = rows("retention")
    assert list(answers) == [row.id for row in found]
    assert [row.id for row in found if not follows(answers[row.id], row)] == []
    assert [key for key, answer in answers.items() if is_refusal(answer) or is_degenerate(answer)] == []
    assert [row.id for row in found if all(follows(answer, row) for answer in answers.values())] == []
