"""Judgements as `harness analyze` reads them, and what it says of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Command = Callable[..., Any]


def line(
    prompt: str, preference: float | None, candidate: str = "dpo", lengths: tuple[int, int] = (10, 8), **fields: Any
) -> Any:
    return {
        "prompt_id": prompt,
        "suite": "held",
        "judge": "referee",
        "candidate": candidate,
        "baseline": "sft",
        "preference": preference,
        "candidate_length": lengths[0],
        "baseline_length": lengths[1],
        **fields,
    }


def annotation(number: int, preference: float | None, **fields: Any) -> Any:
    """As AlpacaEval writes it; the lengths differ from prompt to prompt."""
    return {
        "instruction": f"question {number}",
        "output_1": "a" * (40 + 7 * number % 13),
        "generator_1": "gpt4",
        "dataset": "koala",
        "output_2": "b" * (30 + 11 * number % 29),
        "generator_2": "mine",
        "annotator": "judge",
        "preference": preference,
        "raw_completion": None,
        **fields,
    }


def write(name: str, rows: Sequence[Any], array: bool = False) -> str:
    text = json.dumps(rows) if array else "".join(json.dumps(row) + "\n" for row in rows)
    Path(name).write_text(text, encoding="utf-8")
    return name


def analysed(command: Command, *arguments: str) -> Any:
    outcome = command("analyze", *arguments, "--json", "--resamples", "500")
    assert outcome.status == 0, outcome.err
    assert outcome.err == ""
    return json.loads(outcome.out)


def estimates(document: Any) -> dict[tuple[str, str], Any]:
    return {(each["model"], each["metric"]): each for each in document["estimates"]}
