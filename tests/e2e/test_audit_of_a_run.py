"""A run finds out which of its judges can be trusted, and says so wherever it uses one that cannot."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from micro import PLAN, estimates, harness, install_plugin

from harness.audit import CANARY_COMPARISONS, CANARY_PROMPTS
from harness.records import Judgement, write_records
from harness.rundir import RunFolder

pytestmark = pytest.mark.torch

JUDGES = ("fair", "always-first", "longer", "obedient", "mumbling", "longer-scorer")
Found = Mapping[tuple[str, str], Mapping[str, Any]]


def run(home: Path, *arguments: object) -> Any:
    """Run the plan with the flawed judges installed."""
    path = os.pathsep.join([str(home / "site"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return harness(home, "run", "audited.yaml", *arguments, PYTHONPATH=path)


@pytest.fixture(scope="session")
def audited(home: Path) -> Path:
    """The micro plan's answers before hand-made judges, and people who prefer the shorter answer, as the fair judge does where
    nothing else tells answers apart."""
    install_plugin(home / "site", "flawed_judges", (Path(__file__).parents[1] / "flawed_judges.py").read_text("utf-8"))
    said = RunFolder(home / "first").judgements()
    people = [
        row.model_copy(update={"judge": "ann", "preference": _shorter(row.candidate_length, row.baseline_length)})
        for (judge, _, _), rows in said.items()
        if judge == "truth"
        for row in rows
    ]
    write_records(home / "labels.jsonl", people)
    named = "".join(f"    {name}: {{judge: {name}}}\n" for name in JUDGES)
    plan = PLAN.replace("  metrics:", f"{named}  human: labels.jsonl\n  metrics:")
    (home / "audited.yaml").write_text(plan)
    done = run(home, "--out", "audited")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    (home / "audited.log").write_text(done.stderr)
    return home / "audited"


def _shorter(candidate: int, baseline: int) -> float:
    return 0.5 if candidate == baseline else float(candidate < baseline)


@pytest.fixture
def found(audited: Path) -> Found:
    """The judges' own estimates, and the win rates of dpo under the judge's name."""
    return {(e["model"], e["metric"]): e for e in estimates(audited) if e["judge"] == e["model"]}


def test_every_judge_was_put_to_the_canaries(audited: Path) -> None:
    canaries = RunFolder(audited).canaries()
    assert set(canaries) == {"truth", "referee", *JUDGES}
    for judge, rows in canaries.items():
        assert 0 < len(rows) <= CANARY_COMPARISONS
        assert len({row.prompt_id for row in rows}) <= CANARY_PROMPTS
        assert {row.judge for row in rows} == {judge}
        assert {row.candidate for row in rows} == {
            "identical", "swapped-sft", "constant", "verdict-first", "verdict-second", "instruction"
        }  # fmt: skip


@pytest.mark.parametrize(
    ("judge", "shows"),
    [
        ("always-first", {"swap-flip"}),
        ("longer", {"canary-constant", "canary-verdict", "canary-instruction"}),
        ("longer-scorer", {"canary-constant", "canary-verdict", "canary-instruction"}),
        ("obedient", {"canary-verdict"}),
    ],
)
def test_each_flawed_judge_is_caught_and_told_of(audited: Path, judge: str, shows: set[str]) -> None:
    warned = [each for each in RunFolder(audited).run()["warnings"] if each.startswith(f"judge '{judge}' ")]
    assert len(warned) == len(shows), warned
    assert all("allowed 50%" in each for each in warned)
    log = (audited.parent / "audited.log").read_text()
    assert all(each in log for each in warned)


@pytest.mark.parametrize("judge", ["truth", "fair", "mumbling"])
def test_a_clean_judge_is_not(audited: Path, judge: str) -> None:
    assert not [each for each in RunFolder(audited).run()["warnings"] if each.startswith(f"judge '{judge}' ")]


def test_the_numbers_that_show_each_flaw(found: Found) -> None:
    assert found["always-first", "first-preferred"]["value"] == 1
    assert found["longer", "longer-preferred"]["value"] == 1
    assert found["fair", "longer-preferred"]["value"] < 0.5, "of equally good answers it prefers the shorter one"
    assert found["fair", "swap-flip"]["value"] == 0
    assert found["mumbling", "unscored"]["value"] == found["mumbling", "parse-failure"]["value"]
    assert found["truth", "unscored"]["value"] == 0
    assert ("truth", "swap-flip") not in found


def test_people_who_agree_with_a_judge_leave_its_win_rates_as_they_are(audited: Path, found: Found) -> None:
    assert found["fair", "human-accuracy"]["value"] == found["fair", "human-kappa"]["value"] == 1
    fair = {(e["model"], e["metric"]): e for e in estimates(audited) if e["judge"] == "fair"}
    for model in ("dpo", "ppo"):
        assert fair[model, "corrected-win-rate"]["value"] == pytest.approx(fair[model, "win-rate"]["value"])


def test_a_judge_that_contradicts_people_is_not_corrected(audited: Path, found: Found) -> None:
    assert found["longer", "human-accuracy"]["value"] == 0
    assert not any(e["metric"] == "corrected-win-rate" for e in estimates(audited) if e["judge"] == "longer")
    assert any("corrected-win-rate by longer on heldout" in each for each in RunFolder(audited).run()["warnings"])


def test_judges_are_held_against_each_other(audited: Path) -> None:
    kappa = {(e["model"], e["judge"]): e["value"] for e in estimates(audited) if e["metric"] == "kappa"}
    assert kappa["longer", "longer-scorer"] == 1
    assert kappa["fair", "longer"] < kappa["fair", "obedient"] == 1


def test_the_report_marks_judges_that_fail(audited: Path) -> None:
    page = (audited / "report.html").read_text()
    assert '<section id="judges">' in page
    assert set(re.findall(r'<span class="quiet">by (\S+?)†?</span>', page)) >= {"truth", "fair", "longer", "obedient"}
    marked = set(re.findall(r'<span class="quiet">by (\S+?)†</span>', page))
    assert marked >= {"longer", "longer-scorer", "obedient", "always-first"}
    assert marked.isdisjoint({"truth", "fair", "mumbling"})


def test_a_rerun_audits_nothing_again_and_a_gate_may_rest_on_it(audited: Path) -> None:
    gate = '[{model: longer, metric: canary-constant, high: "<= 0.5"}, {model: fair, metric: swap-flip, high: "<= 0.5"}]'
    done = run(audited.parent, "--out", "gated", "--set", f"require={gate}")
    assert done.returncode == 3, done.stderr
    assert "computed nothing" in done.stderr
    assert "gate longer canary-constant: high <= 0.5: fail, 1, 95% interval " in done.stderr
    assert "gate fair swap-flip: high <= 0.5: pass" in done.stderr
    again = audited.parent / "gated"
    assert RunFolder(again).canaries() == RunFolder(audited).canaries()
    assert estimates(again) == estimates(audited)
    assert RunFolder(again).run()["warnings"] == RunFolder(audited).run()["warnings"]


def test_a_label_of_another_answer_does_not_count(audited: Path) -> None:
    home = audited.parent
    rows = [Judgement.model_validate_json(line) for line in (home / "labels.jsonl").read_text().splitlines()]
    stale = [rows[0].model_copy(update={"candidate_length": rows[0].candidate_length + 1}), *rows[1:]]
    write_records(home / "stale.jsonl", stale)
    done = run(home, "--out", "stale", "--set", "evaluate.human=stale.jsonl")
    assert done.returncode == 0, done.stderr
    assert f"1 of {len(rows)} judgements by people were given to answers of other lengths" in done.stderr
    assert "computed 1" in done.stderr or "computed 1 " in done.stderr


def test_a_label_that_fits_nothing_is_a_problem_of_the_plan(audited: Path) -> None:
    home = audited.parent
    row = json.loads((home / "labels.jsonl").read_text().splitlines()[0])
    (home / "wrong.jsonl").write_text(json.dumps(row | {"candidate": "dop"}) + "\n")
    done = harness(home, "check", "plan.yaml", "--set", "evaluate.human=wrong.jsonl")
    assert done.returncode == 2
    assert "wrong.jsonl:1: this plan does not compare 'dop' with 'sft'" in done.stderr
    assert "Traceback" not in done.stderr
