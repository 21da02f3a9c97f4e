"""A generated sentence never claims what its interval does not support."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conftest import estimate, lock, run_json, win_rate
from harness_reports.facts import Facts
from harness_reports.verdict import PREFERENCES, SCOPE, Verdict, verdict

from harness.records import Observation

if TYPE_CHECKING:
    from harness.records import Estimate


def verdict_on(*estimates: Estimate, **changes: Any) -> Verdict:
    locked = lock()
    locked["plan"]["evaluate"] |= changes
    return verdict(Facts(run=run_json(), lock=locked, estimates=estimates))


def claims(*estimates: Estimate, **changes: Any) -> list[tuple[str, str]]:
    return [(claim.direction, claim.text.replace("\u00a0", " ")) for claim in verdict_on(*estimates, **changes).claims]


def test_clear_win() -> None:
    assert claims(win_rate("dpo", 0.68, 0.61, 0.74)) == [
        (
            "better",
            "DPO beats SFT: its win rate is 68 % (95 % interval 61–74 %, judged by `truth` on `heldout`, 200 prompts).",
        )
    ]


def test_clear_loss() -> None:
    ((way, text),) = claims(win_rate("dpo", 0.31, 0.25, 0.38))
    assert way == "worse"
    assert text.startswith("DPO loses to SFT: its win rate is 31 % (95 % interval 25–38 %")


def test_tie() -> None:
    ((way, text),) = claims(win_rate("dpo", 0.52, 0.45, 0.59))
    assert way == "undecided"
    assert text.startswith("DPO and SFT are not distinguishable")
    assert "beats" not in text


def test_what_a_tie_counts_is_said_where_there_are_any() -> None:
    """40 wins and 160 ties are a win rate of 60 %, and DPO is better on 20 % of the prompts."""
    values = [1.0] * 40 + [0.5] * 160
    seen = [
        Observation(prompt_id=str(n), root=str(n), suite="heldout", model="dpo", metric="win-rate", judge="truth",
                    baseline="sft", value=value)
        for n, value in enumerate(values)
    ]  # fmt: skip
    estimates = (win_rate("dpo", 0.6, 0.57, 0.63),)
    for observations, told in ((seen, True), (seen[:40], False)):
        found = verdict(Facts(run=run_json(), lock=lock(), estimates=estimates, observations=observations))
        assert found.claims[0].text.startswith("DPO beats SFT: its win rate is 60\u00a0% (")
        assert (PREFERENCES in found.notes) == told


def test_prompts_that_were_resampled_together_are_told_beside_how_many_there_are() -> None:
    """(1.96 + 0.8416) · 0.0357 = 10.0 points; 359 · (10.0 / 2.0)² is about 9,000."""
    ((_, text),) = claims(win_rate("dpo", 0.52, 0.45, 0.59, n=378, clusters=359))
    assert "on `heldout`, 378 prompts in 359 groups). 378 prompts in 359 groups find a difference of 10.0 points" in text
    assert text.endswith("would need about 9,000 groups.")
    ((_, text),) = claims(win_rate("dpo", 0.6, 0.3, 0.85, n=9, clusters=8))
    assert "With 9 prompts in 8 groups only" in text
    ((_, text),) = claims(win_rate("dpo", 0.8, 0.6, 0.9, n=10, clusters=9, p_value=None))
    assert "10 prompts in 9 groups are too few" in text


def test_an_end_of_the_interval_is_not_rounded_onto_one_half() -> None:
    ((_, text),) = claims(win_rate("dpo", 0.57, 0.503, 0.63, p_value=0.02))
    assert "interval 50.3–63.0 %" in text


def test_an_interval_that_touches_one_half_claims_nothing() -> None:
    ((way, _),) = claims(win_rate("dpo", 0.57, 0.5, 0.63, p_value=0.02))
    assert way == "undecided"


def test_few_prompts_are_said_to_be_few() -> None:
    ((way, text),) = claims(win_rate("dpo", 0.6, 0.3, 0.85, n=8, clusters=8))
    assert way == "undecided"
    assert "With 8 prompts only a very large difference would show." in text


def test_all_wins_on_three_prompts_claim_nothing() -> None:
    """Exact sign test: 2 * (1/2)^3 = 0.25."""
    certain = win_rate("dpo", 1.0, 1.0, 1.0, n=3, clusters=3, method="exact-constant", p_value=0.25)
    ((way, text),) = claims(certain)
    assert way == "undecided"
    assert "the exact sign test does not (p = 0.25)" in text


def test_a_test_that_does_not_survive_the_number_of_comparisons_claims_nothing() -> None:
    ((way, text),) = claims(win_rate("dpo", 0.57, 0.51, 0.63, p_value=0.03, p_adjusted=0.09))
    assert way == "undecided"
    assert "adjusted for the plan's comparisons by Holm's method, does not (p = 0.09)" in text
    ((way, _),) = claims(win_rate("dpo", 0.57, 0.51, 0.63, p_value=0.01, p_adjusted=0.03))
    assert way == "better"


def test_an_interval_from_few_prompts_without_an_exact_test_claims_nothing() -> None:
    ((way, text),) = claims(win_rate("dpo", 0.8, 0.6, 0.9, n=9, clusters=9, p_value=None))
    assert way == "undecided"
    assert "9 prompts are too few" in text


def test_contradicting_judges_leave_it_undecided() -> None:
    ((way, text),) = claims(win_rate("dpo", 0.68, 0.61, 0.74), win_rate("dpo", 0.35, 0.29, 0.42, judge="referee"))
    assert way == "undecided"
    assert text.startswith("Judges contradict each other on DPO against SFT")
    assert "35 % by `referee` (95 % interval 29–42 %)" in text


def test_a_judge_that_sees_no_difference_is_named() -> None:
    ((way, text),) = claims(win_rate("dpo", 0.68, 0.61, 0.74), win_rate("dpo", 0.53, 0.46, 0.6, judge="referee"))
    assert way == "better"
    assert text.endswith("Not confirmed by `referee` (53 %, 95 % interval 46–60 %).")


def test_a_judge_that_gave_the_reward_decides_nothing_about_what_learned_from_it() -> None:
    locked = lock()
    locked["stages"]["ppo"]["judges"] = {"reward": {"judge": "toy-truth", "models": {}, "options": {}}}
    estimates = (win_rate("dpo", 0.68, 0.61, 0.74), win_rate("ppo", 0.75, 0.69, 0.8))
    found = verdict(Facts(run=run_json(), lock=locked, estimates=estimates))
    assert not any(claim.text.startswith("PPO beats") for claim in found.claims)
    assert any(claim.text.startswith("DPO beats") for claim in found.claims)
    assert "`truth` lies upstream of `ppo`: its scores there measure training, not quality." in found.notes


def test_a_judge_upstream_of_a_candidate_decides_nothing_about_it() -> None:
    found = verdict_on(win_rate("ppo", 0.93, 0.89, 0.96, judge="reward"))
    assert [(claim.direction, claim.text) for claim in found.claims] == [
        ("undecided", "No verdict on PPO: `reward` cannot judge it (see the notes).")
    ]
    assert "`reward` lies upstream of `ppo`: its scores there measure training, not quality." in found.notes


@pytest.mark.parametrize(
    "weak",
    [
        estimate("referee", "accuracy", 0.53, 0.49, 0.57, suite="hh.valid"),
        estimate("referee", "accuracy-vs-longer", 0.02, -0.03, 0.07, suite="hh.valid", baseline="longer"),
    ],
    ids=["chance", "length"],
)
def test_an_unproven_judge_decides_nothing(weak: Estimate) -> None:
    found = verdict_on(win_rate("dpo", 0.68, 0.61, 0.74, judge="referee"), weak)
    assert [claim.direction for claim in found.claims] == ["undecided"]
    assert any("`referee` is unproven" in note for note in found.notes)


def test_an_unproven_judge_contradicts_nobody() -> None:
    weak = estimate("referee", "accuracy", 0.53, 0.49, 0.57, suite="hh.valid")
    found = claims(win_rate("dpo", 0.68, 0.61, 0.74), win_rate("dpo", 0.35, 0.29, 0.42, judge="referee"), weak)
    assert [way for way, _ in found] == ["better"]


def difference(value: float, low: float, high: float, **fields: Any) -> Estimate:
    given = {"judge": "truth", "baseline": "ppo", "p_value": 0.3 if low <= 0 <= high else 0.001}
    return estimate("dpo", "win-rate-difference", value, low, high, **(given | fields))


def test_candidates_that_do_not_differ() -> None:
    assert claims(difference(0.04, -0.03, 0.11)) == [
        (
            "undecided",
            "DPO and PPO are not distinguishable: their win rates differ by +4 points "
            "(95 % interval −3 to +11 points, judged by `truth` on `heldout`). 200 prompts find a difference of 10.0 points in "
            "four runs of five; one as small as the 4.0 points seen here would need about 1,300.",
        )
    ]


@pytest.mark.parametrize(
    ("estimate_of", "ahead"),
    [(difference(0.1, 0.04, 0.16), "DPO is ahead of PPO"), (difference(-0.1, -0.16, -0.04), "PPO is ahead of DPO")],
)
def test_candidates_that_differ(estimate_of: Estimate, ahead: str) -> None:
    ((_, text),) = claims(estimate_of)
    assert text.startswith(ahead)


def test_scope_is_stated_with_every_claim_and_only_then() -> None:
    assert SCOPE in verdict_on(win_rate("dpo", 0.68, 0.61, 0.74)).notes
    assert verdict_on() == Verdict((), ())


def test_many_candidates_are_said_to_be_many() -> None:
    names = ["dpo", "ppo", "dpo-beta-0.05", "dpo-beta-0.2"]
    found = verdict_on(*(win_rate(name, 0.6, 0.52, 0.67) for name in names), candidates=names)
    assert any(note.startswith("4 candidates were compared") for note in found.notes)
    assert found.claims[2].text.startswith("`dpo-beta-0.05` beats SFT")
