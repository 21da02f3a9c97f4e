from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from harness.errors import PlanError
from harness.plan import Gate, Graph
from harness.plan.gates import Expected, expected_estimates, interval_text, matching


def gate(**values: str) -> Gate:
    return Gate.model_validate({"model": "dpo", "metric": "kl", "value": "<= 5", **values})


@pytest.mark.parametrize(
    ("bound", "value", "holds"),
    [
        (">= 0.5", 0.5, True),
        ("> 0.5", 0.5, False),
        ("<= 5", 5.0, True),
        ("<5", 5.0, False),
        (">=-1e-3", -0.002, False),
        ("< .5", 0.4, True),
    ],
)
def test_a_gate_compares_its_part_of_the_estimate(bound: str, value: float, holds: bool) -> None:
    low = Gate.model_validate({"model": "dpo", "metric": "kl", "low": bound})
    estimate = SimpleNamespace(value=-99.0 if holds else 99.0, low=value, high=0.0)
    assert low.holds(estimate) is holds


@pytest.mark.parametrize("bound", ["0.5", "== 0.5", ">= half", ">= nan", ">= 0.5 or so", "=> 0.5", ""])
def test_a_bound_is_a_comparison_with_a_number(bound: str) -> None:
    with pytest.raises(ValidationError, match="is not a bound"):
        gate(value=bound)


LEVEL = Expected("dpo", "kl", None, "held", None)
COMPARISON = Expected("dpo", "kl", None, "held", "sft")
OTHER = Expected("dpo", "kl", None, "safety", None)


def test_a_gate_without_a_baseline_means_the_level() -> None:
    assert matching(gate(), [LEVEL, COMPARISON], "sft") == [LEVEL]
    assert matching(gate(baseline="sft"), [LEVEL, COMPARISON], "sft") == [COMPARISON]
    assert matching(gate(), [COMPARISON], "sft") == [COMPARISON]
    assert matching(gate(), [LEVEL, OTHER], "sft") == [LEVEL, OTHER]
    assert matching(gate(suite="safety"), [LEVEL, OTHER], "sft") == [OTHER]


def test_a_gate_without_a_baseline_means_the_plans_where_there_is_no_level() -> None:
    rival = Expected("dpo", "kl", None, "held", "ppo")
    assert matching(gate(), [rival, COMPARISON], "sft") == [COMPARISON]
    assert matching(gate(baseline="ppo"), [rival, COMPARISON], "sft") == [rival]
    assert matching(gate(), [rival], "sft") == [rival]


def test_what_a_plan_will_estimate(resolve: Callable[..., Graph]) -> None:
    expected = set(expected_estimates(resolve()))
    assert Expected("dpo", "win-rate", "truth", "held", "sft") in expected
    assert Expected("ppo", "win-rate-difference", "referee", "safety", "dpo") in expected
    assert not any(each.model == "sft" and each.metric == "win-rate" for each in expected)
    assert Expected("sft", "reward", "referee", "held", None) in expected
    assert Expected("dpo", "reward", "referee", "held", "sft") in expected
    # Reward models are measured on preferences; a packaged suite has none.
    assert {each.suite for each in expected if each.metric == "accuracy"} == {"held"}
    assert {each.model for each in expected if each.metric == "accuracy"} == {"reward", "referee"}
    assert Expected("referee", "spearman", "truth", "held", None) in expected


def test_comparing_all_adds_the_win_rate_of_each_candidate_over_an_earlier_one(resolve: Callable[..., Graph]) -> None:
    graph = resolve(("  candidates: [dpo, ppo]\n", "  candidates: [dpo, ppo]\n  compare: all\n"))
    assert graph.comparisons() == [("dpo", "sft"), ("ppo", "sft"), ("ppo", "dpo")]
    assert set(expected_estimates(graph)) - set(expected_estimates(resolve())) == {
        Expected("ppo", "win-rate", judge, suite, "dpo") for judge in ("truth", "referee") for suite in ("held", "safety")
    }


def test_a_gate_may_name_any_of_them(resolve: Callable[..., Graph]) -> None:
    difference = "{model: ppo, metric: win-rate-difference, judge: truth, suite: held, low: '> 0'}"
    accuracy = "{model: reward, metric: accuracy, suite: held, low: '> 0.5'}"
    graph = resolve(("require:\n", f"require:\n  - {difference}\n  - {accuracy}\n"))
    assert len(graph.plan.require) == 4


@pytest.mark.parametrize(
    ("gate", "text"),
    [
        (
            'metric: win-rate, judge: truth, value: ">= 65"',
            'value: win-rate is a share from 0 to 1; did you mean ">= 0.65"?',
        ),
        ('metric: win-rate, judge: truth, low: "> 1"', "low: win-rate is a share from 0 to 1, and no bound on it is '> 1'"),
        (
            'metric: win-rate, judge: truth, low: "<= 1.1"',
            "low: win-rate is a share from 0 to 1, and no bound on it is '<= 1.1'",
        ),
        (
            'metric: win-rate-difference, judge: truth, low: "> -5"',
            'difference of shares, from -1 to 1; did you mean "> -0.05"?',
        ),
        (
            'metric: unscored, judge: truth, value: "<= 5"',
            'value: unscored is a share from 0 to 1; did you mean "<= 0.05"?',
        ),
        ("metric: kl, value: 0.1", 'value: is no bound yet; write ">= 0.1" or "<= 0.1"'),
    ],
)
def test_a_bound_that_no_share_can_have_is_told(resolve: Callable[..., Graph], gate: str, text: str) -> None:
    """In percent it could never be met, or always would be; either shows only after everything has trained."""
    model = "truth" if "unscored" in gate else "ppo"
    with pytest.raises(PlanError) as caught:
        resolve(("require:\n", f"require:\n  - {{model: {model}, suite: held, {gate}}}\n"))
    (problem,) = caught.value.problems
    assert text in f"{problem.path}: {problem.text}"
    assert problem.path.startswith("require.0.")


def test_a_stage_requires_no_bound_in_percent_either(resolve: Callable[..., Graph]) -> None:
    with pytest.raises(PlanError, match=r'stages.ppo.requires.0.value: accuracy is a share .* did you mean ">= 0.6"'):
        resolve(('value: ">= 0.6"', 'value: ">= 60"'))


@pytest.mark.parametrize(
    "gate",
    [
        'metric: win-rate, judge: truth, value: ">= 1"',
        'metric: win-rate-difference, judge: truth, low: "> -0.1"',
        'metric: kl, value: "<= 65"',
        'metric: reward, judge: truth, value: ">= 2"',
    ],
)
def test_other_bounds_stay(resolve: Callable[..., Graph], gate: str) -> None:
    assert resolve(("require:\n", f"require:\n  - {{model: ppo, suite: held, {gate}}}\n")).plan.require


def test_nothing_can_be_required_without_an_evaluation(resolve: Callable[..., Graph]) -> None:
    text = "evaluate:\n  baseline: sft\n  candidates: [dpo, ppo]\n"
    with pytest.raises(PlanError, match="require: there is nothing to require without `evaluate`"):
        resolve((text, "report:\n"), ("  suites: {held: {data: toy.test}, safety: {suite: safety}}\n", ""), ("  judges:\n", ""),
                ("    truth: {judge: toy-truth}\n", ""), ("    referee: {judge: reward-model, model: referee}\n", ""),
                ("  metrics: [win-rate, reward, kl, accuracy]\n", ""))  # fmt: skip


def test_a_value_is_told_with_its_interval_and_level() -> None:
    measured = SimpleNamespace(value=0.61234, low=0.5, high=0.7, level=0.9, n=30)
    assert interval_text(measured) == "0.612, 90% interval 0.5 to 0.7, n = 30"  # type: ignore[arg-type]
