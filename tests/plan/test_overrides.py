from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import Problem
from harness.plan.document import Document, read_document

TEXT = "seed: 1\nstages:\n  dpo: {beta: 0.1, args: {x: 1}}\n  dpo-0.5: {beta: 1}\nsweep: {dpo.beta: [1]}\nrequire: [{low: 1}]\n"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def value(document: Document, *path: str | int) -> object:
    found: object = document.values
    for key in path:
        found = found[key]  # type: ignore[index]
    return found


@pytest.mark.parametrize(
    ("setting", "path", "expected"),
    [
        ("seed=7", ("seed",), 7),
        ("stages.dpo.beta=0.2", ("stages", "dpo", "beta"), 0.2),
        ("stages.dpo-0.5.beta=2", ("stages", "dpo-0.5", "beta"), 2),
        ("stages.new={aligner: dpo}", ("stages", "new"), {"aligner": "dpo"}),
        ("report.title=a=b", ("report", "title"), "a=b"),
        ("evaluate.bootstrap.level=0.9", ("evaluate", "bootstrap", "level"), 0.9),
        ("sweep.dpo.beta=[1, 2]", ("sweep", "dpo.beta"), [1, 2]),
        ("sweep.sft.learning_rate=[1]", ("sweep", "sft.learning_rate"), [1]),
        ("require.0.low=2", ("require", 0, "low"), 2),
        ("require.0={high: 3}", ("require", 0), {"high": 3}),
        ("seed=", ("seed",), None),
    ],
)
def test_a_setting_replaces_one_value(plan: Path, setting: str, path: tuple[str | int, ...], expected: object) -> None:
    document = read_document(plan, [setting])
    assert value(document, *path) == expected
    assert document.problem(path, "x") == Problem(0, ".".join(map(str, path)), "x", f"--set {setting}")


def test_later_settings_see_earlier_ones(plan: Path) -> None:
    assert value(read_document(plan, ["seed=7", "seed=8"]), "seed") == 8


def test_lines_below_a_replaced_value_are_forgotten(plan: Path) -> None:
    document = read_document(plan, ["stages.dpo={beta: 3}"])
    assert document.problem(("stages", "dpo", "beta"), "x").file == "--set stages.dpo={beta: 3}"
    assert document.problem(("stages", "dpo-0.5", "beta"), "x").line == 4
