"""The decision table, and what is said beside a win rate: only what intervals support."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conftest import estimate, lock, run_json, win_rate
from harness_reports.decision import decision
from harness_reports.facts import Facts
from harness_reports.power import what_would_tell
from harness_reports.side_effects import side_effects
from harness_reports.verdict import verdict

if TYPE_CHECKING:
    from harness.records import Estimate


def facts_of(*estimates: Estimate, **stages: Any) -> Facts:
    locked = lock()
    locked["stages"] |= stages
    return Facts(run=run_json(), lock=locked, estimates=estimates)


def kl(model: str, value: float, low: float, high: float) -> Estimate:
    return estimate(model, "kl", value, low, high, unit="nats per answer")


def refused(model: str, value: float, low: float, high: float, baseline: str | None = None) -> Estimate:
    return estimate(model, "over-refusal", value, low, high, suite="safety", baseline=baseline)


CLEAR = [win_rate("dpo", 0.68, 0.61, 0.74), win_rate("ppo", 0.62, 0.55, 0.69)]
MOVED = [kl("sft", 9.0, 8.0, 10.0), kl("dpo", 1.0, 0.8, 1.2), kl("ppo", 3.0, 2.5, 3.5)]


def gap(value: float, low: float, high: float) -> Estimate:
    p_value = 0.5 if low <= 0 <= high else 0.001
    return estimate("ppo", "win-rate-difference", value, low, high, judge="truth", baseline="dpo", p_value=p_value)


def marks(facts: Facts) -> dict[str, str | None]:
    return {row.model: row.dominated_by for row in decision(facts).rows}


def test_a_model_that_wins_less_and_moved_further_is_behind() -> None:
    assert marks(facts_of(*CLEAR, *MOVED, gap(-0.06, -0.1, -0.02))) == {"sft": None, "dpo": None, "ppo": "dpo"}


def test_nobody_is_behind_where_no_difference_is_shown() -> None:
    """PPO wins less and moved further by the values, but both intervals leave it open."""
    open_kl = [kl("dpo", 1.0, 0.2, 2.6), kl("ppo", 3.0, 2.5, 3.5)]
    assert marks(facts_of(*CLEAR, *open_kl, gap(-0.06, -0.13, 0.01))) == {"sft": None, "dpo": None, "ppo": None}


def test_a_model_that_is_worse_on_one_count_is_ahead_of_nobody() -> None:
    over = [refused("sft", 0.1, 0.05, 0.2), refused("dpo", 0.3, 0.2, 0.4), refused("ppo", 0.1, 0.05, 0.2)]
    assert marks(facts_of(*CLEAR, *MOVED, *over, gap(-0.06, -0.1, -0.02)))["ppo"] is None


def test_the_baseline_wins_half_against_itself_and_has_not_moved_from_itself() -> None:
    """Its own KL of 9 nats is from the base, and stands on no axis of this comparison."""
    table = decision(facts_of(*CLEAR, *MOVED))
    assert [axis.metric for axis in table.axes] == ["win-rate", "kl"]
    assert [cell.text for cell in table.rows[0].cells] == ["50\u00a0%, itself", "0, itself"]
    assert [[cell.versus_baseline for cell in row.cells] for row in table.rows] == [
        [None, None], ["better", "worse"], ["better", "worse"],
    ]  # fmt: skip


def test_less_is_better_where_it_is_a_cost() -> None:
    """Over-refusal rose for DPO and fell for PPO, by their paired differences."""
    over = [refused(name, 0.1, 0.05, 0.2) for name in ("sft", "dpo", "ppo")]
    changed = [refused("dpo", 0.2, 0.1, 0.3, baseline="sft"), refused("ppo", -0.2, -0.3, -0.1, baseline="sft")]
    table = decision(facts_of(*CLEAR, *over, *changed))
    assert [axis.metric for axis in table.axes] == ["win-rate", "over-refusal"]
    assert [row.cells[1].versus_baseline for row in table.rows] == [None, "worse", "better"]


def test_answers_of_half_the_length_are_no_advantage() -> None:
    """PPO's are shorter than DPO's beyond doubt, and all else is equal."""
    lengths = [
        estimate(name, "length", value, value - 5, value + 5, unit="characters per answer")
        for name, value in (("sft", 134.0), ("dpo", 134.0), ("ppo", 67.0))
    ]
    equal = [win_rate("dpo", 0.62, 0.55, 0.69), win_rate("ppo", 0.62, 0.55, 0.69)]
    table = decision(facts_of(*equal, *lengths, gap(0.0, -0.05, 0.05)))
    assert [(axis.metric, axis.good) for axis in table.axes] == [("win-rate", "higher"), ("length", None)]
    assert [row.cells[1].versus_baseline for row in table.rows] == [None, None, None]
    assert {row.dominated_by for row in table.rows if row.model != "sft"} == {None}


def test_kl_is_no_axis_where_candidates_start_from_something_else() -> None:
    other = {"aligner": "dpo", "gives": "model", "slots": {"init": "base"}}
    assert [axis.metric for axis in decision(facts_of(*CLEAR, *MOVED, dpo=other)).axes] == ["win-rate"]


def test_what_was_not_measured_for_every_model_is_no_axis() -> None:
    assert [axis.metric for axis in decision(facts_of(*CLEAR, *MOVED[1:2])).axes] == ["win-rate"]


def test_there_is_no_table_without_win_rates() -> None:
    assert decision(facts_of(*MOVED)).rows == ()
    assert decision(facts_of(CLEAR[0], *MOVED)).rows == ()


def test_beside_a_win_rate_stand_kl_length_and_what_it_cost() -> None:
    length = estimate("dpo", "length", 14.0, 8.0, 20.0, unit="characters per answer", baseline="sft")
    refusals = [
        refused("dpo", 0.12, 0.04, 0.2, baseline="sft"),
        estimate("dpo", "refusal-unsafe", 0.02, -0.05, 0.09, suite="safety", baseline="sft"),
        estimate("dpo", "instruction-following", 0.1, 0.05, 0.15, suite="retention", baseline="sft"),
    ]
    found = side_effects(facts_of(*CLEAR, *MOVED, length, *refusals), "dpo", "heldout")
    assert [text.replace("\u00a0", " ") for text in found] == [
        "It moved 1.0 [0.8, 1.2] nats of KL per answer from its reference and its answers are longer than SFT's "
        "(+14 [8, 20] characters).",
        "It does worse than SFT in over-refusal of harmless prompts on `safety` (+12 pp [4, 20]). It does better than SFT in instructions "
        "followed on `retention` (+10 pp [5, 15]). No clear change in refusal of unsafe prompts on `safety` (+2 pp [−5, 9]).",
    ]


def test_a_length_whose_interval_holds_0_is_no_difference() -> None:
    length = estimate("dpo", "length", 3.0, -4.0, 10.0, unit="characters per answer", baseline="sft")
    (text,) = side_effects(facts_of(length), "dpo", "heldout")
    assert text == "Its answers show no clear difference in length from SFT's (+3 [\u22124, 10] characters)."


def test_what_is_undecided_says_how_many_prompts_would_tell() -> None:
    """Standard error .05 of 100 prompts: deviation .5. (1.960 + .842) · .05 = .140; a gap of .06 needs (2.802 · .5 / .06)² = 545."""
    even = win_rate("dpo", 0.56, 0.462, 0.658, n=100, clusters=100, standard_error=0.05)
    (claim,) = verdict(facts_of(even)).claims
    assert claim.direction == "undecided"
    assert claim.text.endswith(
        "100 prompts find a difference of 14.0 points in four runs of five; one as small as the 6.0 points seen here would need "
        "about 550."
    )
    exact = win_rate("dpo", 0.5, 0.4, 0.6, n=100, clusters=100, standard_error=0.05)
    assert verdict(facts_of(exact)).claims[0].text.endswith("in four runs of five.")
    tiny = win_rate("dpo", 0.501, 0.4, 0.6, n=100, clusters=100, standard_error=0.05)
    assert verdict(facts_of(tiny)).claims[0].text.endswith("seen here would need more than 20,000.")


def test_a_gap_that_so_many_prompts_find_needs_no_more_of_them() -> None:
    """(2.802 · .02 · √100 / .06)² = 87 of 100."""
    text = what_would_tell(win_rate("dpo", 0.56, 0.49, 0.61, n=100, clusters=100, standard_error=0.02), 0.5)
    assert text == "100 prompts find a difference of 5.6 points in four runs of five."
