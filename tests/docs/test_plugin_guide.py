"""The plugin guide can be copied: each of its modules is a plugin that loads, its plan is valid, and its records have these fields."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import harness
from harness.components import Compute
from harness.plan import check, parse_document
from harness.plugins import Registry, load_plugins

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "tests" / "example_plugin" / "harness_simpo.py").read_text(encoding="utf-8")
FIELDS = re.compile(r"^\| `harness\.(\w+)` \| [^|]* \| (`[^|]*`) \|$", re.MULTILINE)


def blocks(language: str) -> list[str]:
    """The fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def definitions(source: str) -> dict[str, str]:
    """The classes and functions of a module, as normalised source by name."""
    nodes = ast.parse(source).body
    return {node.name: ast.unparse(node) for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ModuleType]]:
    """The guide's modules as they are installed, by the names that they define."""
    site = tmp_path_factory.mktemp("site")
    names = [f"harness_guide_{number}" for number, _ in enumerate(blocks("python"))]
    for name, source in zip(names, blocks("python"), strict=True):
        (site / f"{name}.py").write_text(source, encoding="utf-8")
    about = site / "harness_guide-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: harness-guide\nVersion: 1.0\n", encoding="utf-8")
    points = "".join(f"{name} = {name}\n" for name in names)
    (about / "entry_points.txt").write_text(f"[harness]\n{points}", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        assert load_plugins().broken == []
        yield {each: sys.modules[name] for name in names for each in definitions((site / f"{name}.py").read_text("utf-8"))}
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def registry(guide: dict[str, ModuleType]) -> Registry:
    return load_plugins().registry()


def test_every_block_is_a_module_whose_components_are_found(registry: Registry) -> None:
    mine = {key for key, entry in registry.entries.items() if entry.plugin.distribution == "harness-guide"}
    assert mine == {("aligner", "simpo"), ("judge", "brevity"), ("judge", "longest"), ("metric", "complete")}
    assert [rule.name for rule in registry.rules if rule.aligner == "simpo"] == ["accuracy"]


def test_what_the_example_plugin_holds_stands_in_the_guide_as_it_is() -> None:
    shown: dict[str, str] = {}
    for block in reversed(blocks("python")):
        shown |= definitions(block)
    expected = definitions(EXAMPLE)
    assert {name: shown.get(name) for name in expected} == expected


def test_the_pairwise_judge_prefers_the_longer_answer(guide: dict[str, ModuleType]) -> None:
    judge = guide["Longest"].Longest()
    prompt = (harness.Message(role="user", content="Why?"),)
    pairs = [
        harness.Pair(prompt, *answers) for answers in (("long answer", "short"), ("a", "long"), ("four", "seven"), ("", ""))
    ]
    verdicts = judge.compare(pairs, judge.Config(slack=1), {}, harness.JudgeContext(Compute("cpu", "fp32", 1)))
    assert [verdict.preference for verdict in verdicts] == [1.0, 0.0, 0.5, None]
    assert verdicts[-1].reason == "both answers are empty"


def test_rows_become_chat_messages(guide: dict[str, ModuleType]) -> None:
    prompt = (harness.Message(role="user", content="Why?"),)
    row = harness.Preference(id="1", root="1", prompt=prompt, chosen="So.", rejected="No.")
    assert guide["chat"].chat(row) == [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]


def test_records_are_listed_with_all_their_fields() -> None:
    listed = dict(FIELDS.findall(GUIDE))
    assert set(listed) == {"Message", "PromptRow", "Conversation", "Preference", "SuiteRow", "Sample"}
    for name, fields in listed.items():
        known = getattr(harness, name).model_fields
        written = [
            f"`{field}{'?' if not each.is_required() and each.default is None else ''}`" for field, each in known.items()
        ]
        assert fields == ", ".join(written), name


def test_the_plan_of_the_guide_is_valid_with_its_plugins(registry: Registry, tmp_path: Path) -> None:
    (plan,) = (block for block in blocks("yaml") if block.startswith("name: simpo"))
    (longest,) = re.findall(r"`judges: \{(long: [^`]*)\}`", GUIDE)
    document = plan.replace("{short:", f"{{{longest}, short:")
    graph = check(parse_document(document, str(tmp_path / "plan.yaml")), registry)
    assert {name: node.judge.name for name, node in graph.judges.items()} == {"long": "longest", "short": "brevity"}
    assert graph.judges["long"].config.slack == 20
