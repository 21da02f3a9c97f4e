"""`harness plugins new`: packages that work as they are written, and names that cannot be taken."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.plan import check, read_document
from harness.plugins import load_plugins

Command = Callable[..., Any]
MODULE = "harness_two_words"


@pytest.mark.parametrize("kind", ["aligner", "judge", "metric"])
def test_what_is_written_loads_and_its_plan_is_valid(
    kind: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = command("plugins", "new", "two-words", "--kind", kind)
    folder = tmp_path / "harness-two-words"
    assert (outcome.status, outcome.out) == (0, "harness-two-words\n")
    assert "pip install -e harness-two-words; harness plugins check harness-two-words" in outcome.err
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert set(texts) == {f"{MODULE}.py", f"test_{MODULE}.py", "plan.yaml", "pyproject.toml"}
    assert not [name for name, text in texts.items() if "my-plugin" in text or "MyPlugin" in text or "my_plugin" in text]
    project = tomllib.loads(texts["pyproject.toml"])
    assert project["project"]["name"] == "harness-two-words"
    assert project["project"]["entry-points"]["harness"] == {"two-words": MODULE}
    assert project["tool"]["setuptools"]["py-modules"] == [MODULE]

    info = folder / "harness_two_words-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: harness-two-words\nVersion: 0.1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[harness]\ntwo-words = {MODULE}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    try:
        registry = load_plugins().registry()
    finally:
        sys.modules.pop(MODULE, None)
    assert registry.component(kind, "two-words").__name__ == "TwoWords"
    graph = check(read_document(folder / "plan.yaml", []), registry)
    used = {
        "aligner": {each.aligner.name for each in graph.stages.values() if each.aligner},
        "judge": {each.judge.name for each in graph.judges.values()},
        "metric": {each.metric.name for each in graph.metrics},
    }
    assert "two-words" in used[kind]


@pytest.mark.parametrize("kind", [pytest.param("aligner", marks=pytest.mark.torch), "judge", "metric"])
def test_its_tests_pass(kind: str, command: Command, tmp_path: Path) -> None:
    command("plugins", "new", "mine", "--kind", kind, "-o", "deeper/mine")
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(run, cwd=tmp_path / "deeper" / "mine", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["Mine", "my_plugin", "-mine", "mine-", "1st", "a--b", "../mine", ""])
def test_a_name_that_no_package_can_have_is_refused(name: str, command: Command, tmp_path: Path) -> None:
    outcome = command("plugins", "new", "--kind", "judge", "--", name)
    assert outcome.status == 2
    assert outcome.err == (f"{name!r}: a plugin's name is of small letters, digits and single hyphens, such as my-judge\n")
    assert not [*tmp_path.iterdir()]


def test_a_name_that_is_taken_is_refused(command: Command, tmp_path: Path) -> None:
    outcome = command("plugins", "new", "dpo")
    assert outcome.status == 2
    assert outcome.err.startswith("aligner 'dpo' is there already, from alignment-harness ")
    assert not [*tmp_path.iterdir()]
    assert command("plugins", "new", "dpo", "--kind", "metric").status == 0


def test_nothing_is_written_over(command: Command, tmp_path: Path) -> None:
    (tmp_path / "harness-mine").mkdir()
    outcome = command("plugins", "new", "mine")
    assert (outcome.status, outcome.err) == (2, "harness-mine: exists; choose another folder with -o, or remove it\n")
    assert not [*(tmp_path / "harness-mine").iterdir()]


def test_a_folder_that_cannot_be_made_is_told(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    outcome = command("plugins", "new", "mine", "-o", "file/mine")
    assert (outcome.status, outcome.err) == (2, "file/mine: Not a directory\n")
