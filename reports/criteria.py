"""The success criteria, each passed, failed or undecided by one rule.

A criterion accepts a range of values. It is passed if the whole interval lies in the range, failed if the whole interval
lies outside, and undecided if the interval reaches over an end of the range or if nothing was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.trends import trend

from .evidence import FEW, difference, direction, primary
from .results import null_of
from .text import count, interval, label, number, prompts_in_words
from .trends import reward_curve

if TYPE_CHECKING:
    from harness.records import Estimate

    from .facts import Facts

Outcome = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True)
class Criterion:
    """One criterion, what became of it, and the evidence."""

    text: str
    outcome: Outcome
    evidence: str


def decide(low: float, high: float, above: float = -math.inf, below: float = math.inf) -> Outcome:
    """The rule, for an interval from `low` to `high` and the accepted range from `above` to `below`."""
    if low > above and high < below:
        return "pass"
    return "fail" if high <= above or low >= below else "undecided"


def criteria(facts: Facts) -> tuple[Criterion, ...]:
    """The criteria that apply to the stages of this run."""
    by_aligner = {name: [stage for stage in facts.own_stages if facts.aligner(stage) == name] for name in ("dpo", "ppo")}
    found = [_reward_accuracy(facts, model) for model in facts.reward_models]
    for stage in by_aligner["dpo"]:
        if facts.baseline not in (None, stage):
            found.append(_win_rate(facts, stage))
        found.append(_bounded(facts, f"{label(stage)} stays close: KL below 5 nats per answer", "kl", stage, below=5))
    for stage in by_aligner["ppo"]:
        found.append(_reward_rises(facts, stage))
        found.append(_bounded(facts, f"{label(stage)} stays close: KL below 10 nats per answer", "kl", stage, below=10))
        found.append(_bounded(facts, f"{label(stage)} is coherent: below 5 % empty answers", "empty", stage, below=0.05))
        found.append(
            _bounded(facts, f"{label(stage)} is coherent: below 20 % repeated 4-grams", "repetition", stage, below=0.2)
        )
        found += [_against(facts, stage, other) for other in by_aligner["dpo"]]
    return tuple(found)


def _judge(text: str, estimate: Estimate | None, above: float = -math.inf, below: float = math.inf) -> Criterion:
    if estimate is None:
        return Criterion(text, "undecided", "not measured in this run")
    judge = f", judged by `{estimate.judge}`" if estimate.judge else ""
    evidence = f"{interval(estimate, null_of(estimate))}{judge} on `{estimate.suite}`, {prompts_in_words(estimate)}"
    if estimate.low == estimate.high and estimate.clusters < FEW:
        return Criterion(text, "undecided", f"{evidence}; too few, and all alike, to have an interval")
    outcome = decide(estimate.low, estimate.high, above, below)
    if outcome == "undecided":
        evidence += "; the interval reaches over the bound"
    elif estimate.low >= below and math.isfinite(above):
        evidence += "; above the range: look for a judge that is easily pleased, or for over-optimisation"
    return Criterion(text, outcome, evidence)


def _bounded(facts: Facts, text: str, metric: str, stage: str, below: float) -> Criterion:
    return _judge(text, facts.level_of(metric, stage), below=below)


def _reward_accuracy(facts: Facts, model: str) -> Criterion:
    return _judge(
        f"{label(model)} ranks more than 65 % of held-out pairs as people did",
        facts.level_of("accuracy", model),
        above=0.65,
    )


def _win_rate(facts: Facts, stage: str) -> Criterion:
    text = f"{label(stage)} wins 60 to 75 % against {label(str(facts.baseline))}"
    return _judge(text, primary(facts, stage), above=0.6, below=0.75)


def _reward_rises(facts: Facts, stage: str) -> Criterion:
    text = f"{label(stage)}: the reward rises over training"
    curve = reward_curve(facts.series(stage))
    found = trend(curve) if curve else None
    if found is None:
        return Criterion(text, "undecided", "too few logged rewards" if curve else "no reward was logged")
    evidence = (
        f"mean of the last third minus the first: {number(found.change, sign=True)} "
        f"[{number(found.low)}, {number(found.high)}], {count(found.n, 'logged value')}"
    )
    return Criterion(text, decide(found.low, found.high, above=0.0), evidence)


def _against(facts: Facts, stage: str, other: str) -> Criterion:
    text = f"{label(stage)} wins more often than {label(other)}"
    if facts.baseline in (stage, other):
        estimate, null = primary(facts, other if facts.baseline == stage else stage), 0.5
    else:
        estimate, null = difference(facts, stage, other), 0.0
    if estimate is None:
        return Criterion(text, "undecided", "not measured in this run by a judge that may judge both")
    outcome: Outcome = "undecided"
    if (way := direction(estimate, null)) != "undecided":
        outcome = "pass" if (way == "better") == (estimate.model == stage) else "fail"
    judge = f", judged by `{estimate.judge}`" if estimate.judge else ""
    one, two = label(estimate.model), label(str(estimate.baseline))
    what = f"win rate of {one} against {two}" if null else f"difference of their win rates, {one} minus {two}"
    return Criterion(text, outcome, f"{what}: {interval(estimate, null)}{judge} on `{estimate.suite}`")
