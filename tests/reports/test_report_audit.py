"""What a judge got wrong is said wherever the judge is used, and no verdict rests on one that fails its canaries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from conftest import EVIL, estimate, estimates, lock, run_json, win_rate
from harness_reports.audit import Audit, audit
from harness_reports.facts import Facts
from harness_reports.judges import CIRCULAR, FAILED, standings
from harness_reports.render import render
from harness_reports.results import tables
from harness_reports.verdict import verdict
from harness_reports.view import build_view

from harness.audit import failed_canaries
from harness.records import Judgement

if TYPE_CHECKING:
    from harness.records import Estimate


def of_judge(judge: str, metric: str, value: float, low: float, high: float, **fields: Any) -> Estimate:
    return estimate(judge, metric, value, low, high, judge=judge, **({"n": 20, "unit": "share of prompts"} | fields))


def fooled(judge: str = "truth") -> Estimate:
    """A constant sentence beats real answers, without doubt."""
    return of_judge(judge, "canary-constant", 0.85, 0.64, 0.95)


def facts_of(*found: Estimate, **fields: Any) -> Facts:
    return Facts(run=run_json(), lock=lock(), estimates=found, **fields)


def section(*found: Estimate, **fields: Any) -> Audit:
    made = audit(facts_of(*found, **fields))
    assert made is not None
    return made


def outcomes(*found: Estimate) -> list[str]:
    (judge,) = section(*found).judges
    return [each.outcome for each in judge.findings]


WIN = win_rate("dpo", 0.68, 0.61, 0.74)


def test_no_verdict_rests_on_a_judge_that_fails_a_canary_and_it_says_why() -> None:
    found = verdict(facts_of(WIN, fooled()))
    assert [(each.direction, each.text) for each in found.claims] == [
        ("undecided", "No verdict on DPO: `truth` cannot judge it (see the notes).")
    ]
    assert (
        "`truth` is unproven as a judge, and no verdict uses it: it prefers one constant sentence to real answers "
        "(85 % [64, 95] of `heldout`, 50 % is allowed)."
    ) in [each.replace("\u00a0", " ") for each in found.notes]


def test_what_a_judge_fails_is_said_before_what_it_is_not_shown_to_be() -> None:
    weak = estimate("referee", "accuracy", 0.52, 0.45, 0.59, suite="hh.valid", unit="share of pairs")
    unproven = standings(facts_of(weak, fooled("referee")))["referee"].unproven
    assert unproven is not None
    assert unproven.startswith("it prefers one constant sentence")


def test_another_judge_takes_its_place() -> None:
    other = win_rate("dpo", 0.60, 0.53, 0.67, judge="referee")
    (claim,) = verdict(facts_of(WIN, other, fooled())).claims
    assert claim.direction == "better"
    assert "judged by `referee`" in claim.text


def test_a_judge_in_doubt_is_not_one_that_fails() -> None:
    doubtful = of_judge("truth", "canary-constant", 0.6, 0.39, 0.78)
    (claim,) = verdict(facts_of(WIN, doubtful)).claims
    assert claim.direction == "better"
    assert outcomes(WIN, doubtful) == ["unclear"]


def test_a_judge_that_goes_by_the_order_fails_though_its_canaries_are_fine() -> None:
    flips = of_judge("truth", "swap-flip", 0.7, 0.6, 0.8, unit="share of comparisons")
    standing = standings(facts_of(WIN, flips))["truth"]
    assert standing.sign == FAILED
    assert not standing.may_judge("dpo")


def test_every_table_marks_a_judge_that_fails() -> None:
    found = [*estimates(), fooled()]
    page = render(build_view(facts_of(*found)))
    for place in (
        r'<span class="quiet">by truth(.?)',
        r"<tr><td>[^<]*</td><td>[^<]*</td><td>truth(.?)",
        r"correlation with <code>truth</code>(.?)",
        r"<h3><code>truth</code>(.?)",
        r" · truth(.?) · heldout",
        r"Judged by <code>truth</code>(.?)",
    ):
        named = re.findall(place, page)
        assert named, place
        assert set(named) == {FAILED}, place
    assert page.count(f"{FAILED} <code>truth</code> fails its canaries: it prefers one constant sentence") >= 2
    clean = render(build_view(facts_of(*estimates())))
    assert FAILED not in clean


def test_numbers_by_what_a_model_was_trained_against_are_called_circular_and_no_others() -> None:
    (table, *_) = tables(facts_of(*estimates()))
    marked = {
        (row.judge, model)
        for row in table.rows
        for model, cell in zip(table.models, row.cells, strict=True)
        for value in cell
        if value.mark == CIRCULAR
    }
    assert marked == {("reward", "ppo")}
    assert table.notes == ("circular: `ppo` was trained against `reward`, so this judge's numbers on it prove nothing.",)
    page = render(build_view(facts_of(*estimates())))
    assert page.count(f'<span class="badge warning">{CIRCULAR}</span>') == 2, "in the table, and in how it was made"


def test_an_audits_numbers_have_a_section_of_their_own() -> None:
    (table,) = tables(facts_of(WIN, fooled()))
    assert table.models == ("dpo",)
    assert [row.metric for row in table.rows] == ["win-rate"]


def test_a_corrected_win_rate_stands_below_the_raw_one_of_the_same_judge() -> None:
    corrected = win_rate("dpo", 0.75, 0.6, 0.9, p_value=None).model_copy(update={"metric": "corrected-win-rate"})
    other = win_rate("dpo", 0.6, 0.5, 0.7, judge="referee")
    (table,) = tables(facts_of(WIN, other, corrected))
    assert [(row.metric, row.judge) for row in table.rows] == [
        ("win-rate", "truth"),
        ("corrected-win-rate", "truth"),
        ("win-rate", "referee"),
    ]
    row = table.rows[1].cells[0][0]
    assert row.text.replace("\u00a0", " ") == "75 % [60, 90]", "a level, not a difference"


@pytest.mark.parametrize(
    ("value", "low", "high", "outcome"),
    [(0.62, 0.57, 0.66, "leans"), (0.40, 0.34, 0.46, "leans"), (0.53, 0.46, 0.6, "")],
)
def test_a_bias_is_said_where_its_interval_leaves_one_half_out(value: float, low: float, high: float, outcome: str) -> None:
    assert outcomes(of_judge("truth", "longer-preferred", value, low, high)) == [outcome]


def test_a_canary_passes_or_fails_by_its_interval() -> None:
    assert outcomes(fooled()) == ["fails"]
    assert outcomes(of_judge("truth", "canary-constant", 0.2, 0.08, 0.42)) == ["passes"]
    assert outcomes(of_judge("truth", "canary-identical", 0.25, 0.11, 0.47)) == ["fails"]
    assert outcomes(of_judge("truth", "canary-identical", 0.2, 0.08, 0.42)) == ["unclear"]
    assert outcomes(of_judge("truth", "unscored", 0.3, 0.25, 0.35)) == ["many"]


def test_what_does_not_apply_is_said() -> None:
    (judge,) = section(of_judge("truth", "longer-preferred", 0.5, 0.4, 0.6)).judges
    assert any("no order can matter" in each for each in judge.absent)
    flips = of_judge("truth", "swap-flip", 0.1, 0.05, 0.2)
    first = of_judge("truth", "first-preferred", 0.5, 0.4, 0.6)
    (judge,) = section(flips, first).judges
    assert not any("no order can matter" in each for each in judge.absent)


def test_canaries_costs_and_reasons_are_told() -> None:
    def row(preference: float | None, reason: str | None) -> Judgement:
        return Judgement(prompt_id="p", suite="heldout", judge="truth", candidate="constant", baseline="sft",
                         preference=preference, reason=reason, candidate_length=1, baseline_length=1, cost=0.002)  # fmt: skip

    quoted = [row(None, f"no verdict; it reads {word!r}") for word in ("one", "two", "three")]
    rows = [row(0.0, None), row(None, "no reply " + EVIL), row(None, "no reply " + EVIL), *quoted]
    facts = facts_of(fooled(), canaries={"truth": rows})
    found = audit(facts)
    assert found is not None
    assert found.judges[0].canaries == "6 comparisons, $0.012"
    assert found.judges[0].unscored == (("no verdict; it reads 'one'", "3"), ("no reply " + EVIL, "2"))
    assert "<script>" not in render(build_view(facts))


def test_agreement_and_people_are_tables() -> None:
    kappa = estimate("truth", "kappa", 0.39, 0.31, 0.47, judge="referee", unit="agreement beyond chance", n=600)
    equal = estimate("truth", "agreement", 0.74, 0.70, 0.78, judge="referee", n=600)
    accuracy = of_judge("truth", "human-accuracy", 0.9, 0.8, 0.96, n=50)
    raw = WIN
    corrected = raw.model_copy(update={"metric": "corrected-win-rate", "value": 0.75, "low": 0.6, "high": 0.9})
    found = section(of_judge("truth", "unscored", 0, 0, 0.02), kappa, equal, accuracy, raw, corrected)
    (agreed,) = found.agreement
    assert (agreed.judges, agreed.n) == (("truth", "referee"), "600")
    assert [each.replace("\u00a0", " ") for each in (agreed.equal, agreed.kappa)] == ["74 % [70, 78]", "0.39 [0.31, 0.47]"]
    (people,) = found.people
    assert (people.judge, people.n, people.values[1:]) == ("truth", "50", ("–", "–", "–"))
    (rate,) = found.corrected
    assert [each.replace("\u00a0", " ") for each in (rate.raw, rate.corrected)] == ["68 % [61, 74]", "75 % [60, 90]"]


def test_a_run_without_judges_has_no_such_section() -> None:
    facts = facts_of(estimate("dpo", "kl", 3.2, 2.9, 3.6, unit="nats per answer"))
    assert audit(facts) is None
    assert 'id="judges"' not in render(build_view(facts))


@pytest.mark.parametrize(("level", "written"), [(0.95, "95%"), (0.975, "97.5%"), (0.995, "99.5%"), (0.999, "99.9%")])
def test_a_canarys_evidence_has_the_level_that_its_interval_has(level: float, written: str) -> None:
    ((canary, seen),) = failed_canaries([of_judge("truth", "canary-constant", 0.85, 0.64, 0.95, level=level)], "truth")
    assert f"({written} interval 64% to 95%, allowed 50%)" in canary.evidence(seen)
