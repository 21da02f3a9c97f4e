"""Success criteria: passed, failed or undecided by where the whole interval lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import estimate, lock, run_json, win_rate
from harness_reports.criteria import Criterion, criteria, decide
from harness_reports.facts import Facts

from harness.rundir import Scalar

if TYPE_CHECKING:
    from harness.records import Estimate


def outcome(text: str, *estimates: Estimate, scalars: list[Scalar] | None = None) -> str:
    found = criteria(Facts(run=run_json(), lock=lock(), estimates=estimates, scalars=scalars or []))
    matching: list[Criterion] = [each for each in found if text in each.text]
    assert len(matching) == 1, [each.text for each in found]
    return matching[0].outcome


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.61, 0.74, "pass"),
        (0.58, 0.70, "undecided"),
        (0.70, 0.80, "undecided"),
        (0.5, 0.8, "undecided"),
        (0.45, 0.6, "fail"),
        (0.75, 0.9, "fail"),
    ],
)
def test_a_range_is_decided_by_the_whole_interval(low: float, high: float, expected: str) -> None:
    assert decide(low, high, above=0.6, below=0.75) == expected
    assert outcome("DPO wins 60 to 75 %", win_rate("dpo", (low + high) / 2, low, high)) == expected


@pytest.mark.parametrize(("low", "high", "expected"), [(0.66, 0.8, "pass"), (0.6, 0.7, "undecided"), (0.5, 0.64, "fail")])
def test_reward_accuracy(low: float, high: float, expected: str) -> None:
    accuracy = estimate("referee", "accuracy", (low + high) / 2, low, high, suite="hh.valid", unit="share of pairs")
    assert outcome("`referee` ranks more than 65 %", accuracy) == expected


@pytest.mark.parametrize(("low", "high", "expected"), [(2.0, 4.9, "pass"), (4.0, 6.0, "undecided"), (5.0, 7.0, "fail")])
def test_dpo_kl(low: float, high: float, expected: str) -> None:
    assert outcome("DPO stays close: KL below 5", estimate("dpo", "kl", 4.5, low, high, unit="nats per answer")) == expected


def test_what_was_not_measured_is_undecided() -> None:
    assert outcome("DPO wins 60 to 75 %") == "undecided"


def test_equal_values_on_few_prompts_are_undecided() -> None:
    accuracy = estimate("referee", "accuracy", 1.0, 1.0, 1.0, suite="hh.valid", clusters=3, method="exact-constant")
    assert outcome("`referee` ranks", accuracy) == "undecided"


def test_a_win_rate_by_the_model_that_ppo_was_trained_against_is_no_evidence() -> None:
    by_reward = estimate("ppo", "win-rate-difference", 0.2, 0.1, 0.3, judge="reward", baseline="dpo", p_value=0.001)
    assert outcome("PPO wins more often than DPO", by_reward) == "undecided"


@pytest.mark.parametrize(
    ("model", "baseline", "low", "high", "expected"),
    [
        ("ppo", "dpo", 0.02, 0.12, "pass"),
        ("ppo", "dpo", -0.12, -0.02, "fail"),
        ("dpo", "ppo", 0.02, 0.12, "fail"),
        ("dpo", "ppo", -0.12, -0.02, "pass"),
        ("dpo", "ppo", -0.05, 0.05, "undecided"),
    ],
)
def test_ppo_against_dpo(model: str, baseline: str, low: float, high: float, expected: str) -> None:
    found = estimate(model, "win-rate-difference", (low + high) / 2, low, high, judge="truth", baseline=baseline)
    assert outcome("PPO wins more often than DPO", found) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.1, 0.0, 0.5, 0.5, 0.5, 1.0, 1.1, 1.0], "pass"),
        ([1.0, 1.1, 1.0, 0.5, 0.5, 0.5, 0.0, 0.1, 0.0], "fail"),
        ([0.0, 1.0, 0.0, 0.5, 0.5, 0.5, 1.0, 0.0, 0.4], "undecided"),
        ([0.0, 1.0], "undecided"),
    ],
)
def test_reward_over_training(values: list[float], expected: str) -> None:
    logged = [Scalar("ppo", step, "reward", value) for step, value in enumerate(values)]
    assert outcome("the reward rises", scalars=logged) == expected


def of_plan(evaluate: dict[str, object] | None, *estimates: Estimate) -> dict[str, Criterion]:
    locked = lock()
    locked["plan"]["evaluate"] = locked["plan"]["evaluate"] | evaluate if evaluate else None
    return {each.text: each for each in criteria(Facts(run=run_json(), lock=locked, estimates=estimates))}


def test_without_another_model_as_baseline_no_win_rate_is_asked_for() -> None:
    assert not any("wins 60 to 75" in text for text in of_plan(None))
    assert not any("wins 60 to 75" in text for text in of_plan({"baseline": "dpo", "candidates": ["ppo"]}))


@pytest.mark.parametrize(
    ("model", "baseline", "value", "expected"),
    [
        ("ppo", "dpo", 0.64, "pass"),
        ("ppo", "dpo", 0.36, "fail"),
        ("dpo", "ppo", 0.64, "fail"),
        ("dpo", "ppo", 0.36, "pass"),
    ],
)
def test_ppo_against_a_baseline_that_is_dpo_or_the_other_way_round(
    model: str, baseline: str, value: float, expected: str
) -> None:
    rate = win_rate(model, value, value - 0.06, value + 0.06, baseline=baseline)
    found = of_plan({"baseline": baseline, "candidates": [model]}, rate)["PPO wins more often than DPO"]
    assert found.outcome == expected
    assert found.evidence.startswith(f"win rate of {model.upper()} against {baseline.upper()}: {100 * value:.0f}")


def test_evidence_counts_pairs_as_pairs_and_says_how_many_groups_they_are_in() -> None:
    accuracy = estimate("referee", "accuracy", 0.7, 0.66, 0.74, suite="hh.valid", unit="share of pairs", n=210)
    rate = win_rate("dpo", 0.68, 0.61, 0.74, n=210)
    found = [each.evidence for each in criteria(Facts(run=run_json(), lock=lock(), estimates=(accuracy, rate)))]
    assert any("on `hh.valid`, 210 pairs in 200 groups" in each for each in found)
    assert any("on `heldout`, 210 prompts in 200 groups" in each for each in found)
