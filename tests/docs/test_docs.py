"""The docs are true: links lead somewhere, what is shown is what is there, the reference is up to date."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import hookspecs
from harness.audit import AUDIT_METRICS, CANARIES, CANARY_PROMPTS, CORRECTED
from harness.cli import cli
from harness.plan import check, parse_document
from harness.plugins import load_plugins

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PLUGINS = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HELP = re.compile(r"^```(?:console|text)\n\$ harness ([^\n]*--help)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    """The fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)):
        target, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(link)
    assert broken == []


def test_the_plan_reference_is_up_to_date() -> None:
    registry = load_plugins().registry()
    written = (ROOT / "docs" / "plan.md").read_text(encoding="utf-8")
    assert written == runpy.run_path(str(ROOT / "docs" / "plan_reference.py"))["reference"](registry), "run tox -e docs"


def test_the_page_on_health_lists_every_built_in_rule_as_it_is() -> None:
    written = (ROOT / "docs" / "health.md").read_text(encoding="utf-8")
    page = runpy.run_path(str(ROOT / "docs" / "health_reference.py"))
    assert written == page["reference"](page["built_in"]()), "run tox -e docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_help_that_is_shown_is_what_the_command_prints(page: Path) -> None:
    for arguments, shown in HELP.findall(page.read_text(encoding="utf-8")):
        printed = CliRunner().invoke(cli, arguments.split(), prog_name="harness", terminal_width=100).output
        assert shown.strip() == printed.strip(), f"harness {arguments}"


def test_the_plugin_guide_shows_the_example_plugins_project_file() -> None:
    source = (ROOT / "tests" / "example_plugin" / "pyproject.toml").read_text(encoding="utf-8")
    (shown,) = blocks(PLUGINS, "toml")
    assert shown in source


def test_the_plugin_guide_lists_every_hook_with_its_arguments() -> None:
    listed = re.findall(r"^\| `(harness_\w+\([^)]*\))` \|", PLUGINS, re.MULTILINE)
    hooks = {name: function for name, function in vars(hookspecs).items() if name.startswith("harness_")}
    assert listed == [f"{name}({', '.join(inspect.signature(each).parameters)})" for name, each in hooks.items()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_whole_plans_that_are_shown_are_valid(page: Path, tmp_path: Path) -> None:
    """A YAML block with a base is a plan. The plan of the plugin guide needs its plugin; test_plugin_guide.py has it.

    The files that a plan names are the reader's own, so they are put beside it.
    """
    registry = load_plugins().registry()
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "yaml")):
        if re.search(r"^base:", block, re.MULTILINE) and "simpo" not in block:
            for file in re.findall(r"\bpath: ([\w.-]+\.jsonl)", block):
                (tmp_path / file).touch()
            check(parse_document(block, str(tmp_path / f"{page.name}-{number}.yaml")), registry)


def test_the_page_on_metrics_lists_every_built_in_measure_and_kind_of_check() -> None:
    from harness_plugins.metrics import harness_metrics
    from harness_plugins.metrics.instructions import KINDS

    written = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| `([\w-]+)` \| ([^|]+) \| [^|]+ \| (\S+) \|", written, re.MULTILINE)
    expected = [
        (measure.name, metric.name, measure.unit, measure.better or "–")
        for metric in harness_metrics()
        for measure in metric.measures
    ]
    assert sorted(rows) == sorted(expected)
    kinds = dict(re.findall(r"^\| `([\w-]+)` \| ([^|]+) \| [^|]+ \|$", written, re.MULTILINE))
    asked = {kind: [name.strip("`?") for name in kinds.get(kind, "").split(", ") if name != "–"] for kind in KINDS}
    assert asked == {kind: list(inspect.signature(check).parameters)[1:] for kind, check in KINDS.items()}


def test_the_page_on_metrics_gives_the_detectors_error_as_it_is_measured() -> None:
    from harness_plugins.metrics.safety import Safety

    from harness.evaluation.estimates import validated
    from harness.plan.model import Bootstrap

    found = {each.metric: each for each in validated([Safety()], Bootstrap(), 0)}
    right, left = found["sensitivity"], found["specificity"]
    words = [
        f"{100 * each.value:.0f} % of the {what} [{100 * each.low:.0f}, {100 * each.high:.0f}]"
        for each, what in ((right, "refusals"), (left, "others alone"))
    ]
    written = " ".join((ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").split())
    assert [each for each in words if each not in written] == []
    assert "120 answers that were written and labelled for this, 60 refusals and 60 others" in written
    assert (right.n, left.n) == (60, 60)


def test_the_page_on_audits_names_every_number_and_what_is_allowed() -> None:
    text = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert {line.split("`")[1] for line in rows} == {*AUDIT_METRICS, CORRECTED}
    for canary in CANARIES:
        allowed = f"| {100 * canary.allowed:.0f} % |"
        assert any(line.startswith(f"| `{canary.metric}` |") and line.endswith(allowed) for line in rows), canary.metric
    assert f"the first {CANARY_PROMPTS} prompts" in " ".join(text.split())
