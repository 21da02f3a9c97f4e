"""What `harness check` shows of a plan without a mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_the_outline_says_which_judge_fills_a_slot(command: Callable[..., Any], plan_text: str) -> None:
    Path("plan.yaml").write_text(plan_text.replace("reward: reward", "reward: {judge: toy-truth}"), encoding="utf-8")
    Path("more.jsonl").write_text('{"prompt": "Why?"}\n', encoding="utf-8")
    outcome = command("check", "plan.yaml")
    assert outcome.status == 0
    assert "ppo(init=sft, data=toy.train, reward=judge toy-truth)" in outcome.out
    assert "judge 'truth' is the reward that 'ppo' was trained against" in outcome.err + outcome.out


@pytest.mark.parametrize(
    ("suites", "text"),
    [
        # 0.5 · (1.96 + 0.84) / √(100 + 0.84²) is 0.140, of which the equation's exact solution differs by little.
        (
            "{packaged: {suite: safety, limit: 100}}",
            "suite packaged: 100 prompts: a win rate of at least 0.5 ± 0.14 would be",
        ),
        ("{mine: {path: mine.jsonl}}", "suite mine: 3 prompts: too few to tell any win rate from 0.5"),
        # Four of one root and two of another: 6² / (4² + 2²) = 1.8.
        ("{mine: {path: roots.jsonl}}", "suite mine: 6 prompts, worth at least 1.8 independent ones: too few"),
    ],
)
def test_check_shows_what_a_suite_can_tell(command: Callable[..., Any], plan_text: str, suites: str, text: str) -> None:
    plan = plan_text.replace("  suites:\n    held: {data: toy.test}", f"  suites: {suites}")
    Path("plan.yaml").write_text(plan, encoding="utf-8")
    Path("more.jsonl").write_text('{"prompt": "Why?"}\n', encoding="utf-8")
    rows = [f'{{"id": "{number}", "prompt": "Why?", "root": "{number // 4}"}}\n' for number in range(6)]
    Path("roots.jsonl").write_text("".join(rows), encoding="utf-8")
    Path("mine.jsonl").write_text("".join(row.replace(', "root": "0"', "") for row in rows[:3]), encoding="utf-8")
    outcome = command("check", "plan.yaml")
    assert outcome.status == 0
    assert f"  {text}" in outcome.out


def test_a_suite_may_lie_in_the_home_folder(
    command: Callable[..., Any], plan_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / "mine.jsonl").write_text('{"id": "a", "prompt": "Why?"}\n', encoding="utf-8")
    Path("plan.yaml").write_text(plan_text.replace("{data: toy.test}", "{path: ~/mine.jsonl}"), encoding="utf-8")
    Path("more.jsonl").write_text('{"prompt": "Why?"}\n', encoding="utf-8")
    outcome = command("check", "plan.yaml")
    assert outcome.status == 0, outcome.err
    assert "suite held: 1 prompts" in outcome.out
