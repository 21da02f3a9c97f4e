"""Files that are no plan, and those that a plan names and cannot use: told by `harness check`, and never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(9)
)


def test_a_bad_suite_file_is_told_before_anything_is_trained(command: Callable[..., Any], plan_text: str) -> None:
    Path("plan.yaml").write_text(plan_text.replace("{data: toy.test}", "{path: mine.jsonl}"), encoding="utf-8")
    Path("more.jsonl").write_text('{"prompt": "Why?"}\n', encoding="utf-8")
    for text, problem in {
        '{"id": "a", "prompt": "Why?"}\n' * 2: ":2: row 'a': the id stands twice",
        '{"id": "a", "prompt": []}\n': ":1: row 'a': prompt is an empty list; expected text or chat messages",
    }.items():
        Path("mine.jsonl").write_text(text, encoding="utf-8")
        outcome = command("check", "plan.yaml")
        assert outcome.status == 2
        assert f"plan.yaml:36: evaluate.suites.held.path: suite mine.jsonl{problem}" in outcome.err


FILES = [
    ("empty", b"", "plan.yaml:1: the plan is empty; `harness init` writes one"),
    ("comments only", b"# nothing\n", "plan.yaml:1: the plan is empty"),
    ("a list", b"- name: x\n", "plan.yaml:1: a plan is a mapping of keys to values"),
    ("one word", b"hello", "plan.yaml:1: a plan is a mapping of keys to values"),
    ("tag at the top", b"!!python/object:os.system {name: x}", "plan.yaml:1: the tag !!python/object:os.system is not allowed"),
    ("call at the top", b"!!python/object/apply:os.system [ls]", "plan.yaml:1: the tag !!python/object/apply:os.system is"),
    ("not UTF-8", b"name: x\nseed: \xff\n", "plan.yaml:2: not UTF-8 text; save the plan as UTF-8"),
    ("binary", b"\x7fELF\x02\x01\x01\x00\x00", "plan.yaml:1: not valid YAML: the character U+007F is not allowed"),
    ("NULs", b"\0" * 100, "plan.yaml:1: not valid YAML: the character U+0000 is not allowed"),
    ("huge", b"# " + b"x" * 300_000, "plan.yaml:1: larger than 250,000 bytes"),
    ("nested lists", b"name: " + b"[" * 2000 + b"]" * 2000, "plan.yaml:1: not valid YAML: nested too deeply"),
    ("forty lists", b"name: " + b"[" * 40 + b"]" * 40, "nested too deeply"),
    ("alias bomb", BOMB.encode(), "aliases expand to too many values; write the plan out"),
    ("no sections", b"name: x\n", "plan.yaml:1: data: is missing"),
    ("null sections", b"name: x\nbase: {type: tiny}\ndata:\nstages:\n", "plan.yaml:3: data: is empty"),
    ("empty sections", b"name: x\nbase: {type: tiny}\ndata: {}\nstages: {}\n", "plan.yaml:4: stages: "),
]  # fmt: skip


@pytest.mark.parametrize(("content", "text"), [row[1:] for row in FILES], ids=[row[0].replace(" ", "-") for row in FILES])
def test_a_file_that_is_no_plan(command: Callable[..., Any], content: bytes, text: str) -> None:
    Path("plan.yaml").write_bytes(content)
    started = time.monotonic()
    outcome = command("check", "plan.yaml")
    assert outcome.status == 2
    assert text in outcome.err
    assert "Traceback" not in outcome.err
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        ("none.yaml", "none.yaml: cannot be read: No such file or directory"),
        ("folder", "folder: is a folder; give the plan file in it"),
        ("quickstrat", "quickstrat: no such file, and no packaged plan of that name; there are "),
    ],
)
def test_a_plan_that_is_not_there(command: Callable[..., Any], plan: str, text: str) -> None:
    Path("folder").mkdir()
    outcome = command("check", plan)
    assert outcome.status == 2
    assert text in outcome.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_plan_that_may_not_be_read(command: Callable[..., Any]) -> None:
    Path("plan.yaml").touch(mode=0)
    outcome = command("check", "plan.yaml")
    assert (outcome.status, outcome.err) == (2, "plan.yaml: cannot be read: Permission denied\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_data_that_may_not_be_read(command: Callable[..., Any], plan_text: str) -> None:
    Path("plan.yaml").write_text(plan_text, encoding="utf-8")
    Path("more.jsonl").touch(mode=0)
    outcome = command("check", "plan.yaml")
    assert outcome.status == 2
    assert "plan.yaml:6: data.more.path: more.jsonl: cannot be read: Permission denied" in outcome.err


def test_what_may_be_a_data_set_of_the_hub_is_no_problem_of_the_plan(command: Callable[..., Any], plan_text: str) -> None:
    """Whether it is one shows when it is loaded: no plan check asks the network."""
    Path("plan.yaml").write_text(plan_text.replace("path: more.jsonl", "path: someone/more") + "x: 1\n", encoding="utf-8")
    outcome = command("check", "plan.yaml")
    assert [line.split(": ")[1] for line in outcome.err.splitlines()] == ["x"]


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        (
            "own.jsonl",
            '{"id": "a", "prompt": "x"}\n{"id": "b", "prompt": "y", "checks": [{"kind": "wrods", "at_most": 3}]}\n',
            "own.jsonl:2: row 'b': unknown check 'wrods'; did you mean 'words'?",
        ),
        ("own.jsonl", '{"id": "a", "prompt": "x", "check": []}\n', "own.jsonl:1: check: Extra inputs are not permitted"),
        ("own.csv", "id,prompt,type,label\n1,x,t,perhaps\n", "own.csv:2: the label 'perhaps' is neither"),
    ],
)
def test_a_suite_whose_rows_cannot_be_used_is_a_problem_of_the_plan(
    command: Callable[..., Any], plan_text: str, file: str, content: str, text: str
) -> None:
    """It is told before anything trains, not when the evaluation begins."""
    Path(file).write_text(content, encoding="utf-8")
    plan = plan_text.replace("{data: toy.test}", f"{{path: {file}}}").replace(
        "  metrics:\n", "  metrics:\n    - retention\n"
    )
    Path("plan.yaml").write_text(plan, encoding="utf-8")
    outcome = command("check", "plan.yaml")
    assert outcome.status == 2
    assert "plan.yaml:36: evaluate.suites.held.path: " in outcome.err
    assert text in outcome.err


@pytest.mark.parametrize("content", ["name: x\nseed: !!python/object/apply:os.system ['touch ran']\n", "a: [", BOMB])
def test_the_installed_command_says_the_same(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.yaml").write_text(content, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", "plan.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("plan.yaml:")
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]
