"""How far each judge can be trusted: what it was measured at, and which candidates it cannot judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.audit import failed_canaries

from .text import count, interval, join, percent

if TYPE_CHECKING:
    from harness.records import Estimate

    from .facts import Facts

LENGTH_RULES = {
    "accuracy-vs-shorter": "preferring the shorter answer",
    "accuracy-vs-longer": "preferring the longer answer",
}
FAILED = "†"
"""The sign of a judge that fails its canaries."""

CIRCULAR = "circular"
"""The word for a judge's number on a model that was trained against it."""


@dataclass(frozen=True)
class Standing:
    """A judge's standing. `unproven` says why no verdict may use it; `trained_on_it` names candidates that saw its
    scores; `failed` says which canaries it fails, which makes it unproven."""

    judge: str
    accuracy: Estimate | None
    unproven: str | None
    trained_on_it: frozenset[str]
    failed: tuple[str, ...] = ()

    def may_judge(self, *models: str) -> bool:
        """Whether a verdict on these models may rest on this judge."""
        return self.unproven is None and not self.trained_on_it.intersection(models)

    @property
    def sign(self) -> str:
        """What stands behind the judge's name in tables."""
        return FAILED if self.failed else ""

    def mark(self, *models: str | None) -> str:
        """What stands beside its numbers on these models in tables."""
        return CIRCULAR if self.trained_on_it.intersection(models) else ""

    def footnotes(self, *models: str | None) -> list[str]:
        """What a table that uses this judge on these models has to say of its sign and mark."""
        notes = [f"{FAILED} `{self.judge}` fails its canaries: it {join(self.failed)}."] if self.failed else []
        if trained := sorted(self.trained_on_it.intersection(models)):
            names = join([f"`{name}`" for name in trained])
            notes.append(
                f"{CIRCULAR}: {names} was trained against `{self.judge}`, so this judge's numbers on it prove nothing."
            )
        return notes

    def note(self) -> str | None:
        """What a reader has to know about this judge, or None."""
        parts = []
        if self.unproven:
            parts.append(f"`{self.judge}` is unproven as a judge, and no verdict uses it: {self.unproven}.")
        elif self.accuracy:
            parts.append(
                f"`{self.judge}` agrees with the held-out preferences on {interval(self.accuracy, 0.5)} of "
                f"`{self.accuracy.suite}`."
            )
        if self.trained_on_it:
            names = join([f"`{name}`" for name in sorted(self.trained_on_it)])
            parts.append(f"`{self.judge}` lies upstream of {names}: its scores there measure training, not quality.")
        return " ".join(parts) or None


def costs_in_words(facts: Facts) -> tuple[str, ...]:
    """What each judge that is paid for cost: in this run, and in all that its judgements and scores rest on."""
    spent = facts.run.get("judges") or {}
    told = []
    for judge in dict.fromkeys([*facts.judges, *(facts.evaluate.get("harm") or ()), *facts.paid]):
        records = facts.paid.get(judge, ())
        if not records and judge not in spent:
            continue
        calls = spent.get(judge) or {"calls": 0, "dollars": 0.0}
        replies = sum(each.usage.replies for each in records if each.usage)
        costs = [each.cost for each in records]
        total = None if any(cost is None for cost in costs) else sum(cost for cost in costs if cost is not None)
        told.append(
            f"Judge `{judge}`: {count(calls['calls'], 'call')} in this run, {_dollars(calls['dollars'])}; what it judged rests on "
            f"{replies:,} replies, {_dollars(total)} when they were asked."
        )
    return tuple(told)


def _dollars(amount: float | None) -> str:
    if amount is None:
        return "at prices that are not known"
    return f"${amount:.2f}" if amount >= 0.1 or not amount else f"${amount:.2g}"


def standings(facts: Facts) -> dict[str, Standing]:
    """Every judge's standing."""
    return {judge: standing(facts, judge) for judge in facts.judges}


def standing(facts: Facts, judge: str) -> Standing:
    """Look a judge's own measurements up: its canaries, its model's accuracy, against chance and against the rules that see
    only length."""
    models = facts.judge_models(judge)
    accuracies = [
        each for each in facts.estimates if each.metric == "accuracy" and (each.model in models or each.judge == judge)
    ]
    rules = [
        each for each in facts.estimates if each.metric in LENGTH_RULES and (each.model in models or each.judge == judge)
    ]
    failed = tuple(
        f"{canary.says} ({interval(each)} of `{each.suite}`, {percent(canary.allowed)} is allowed)"
        for canary, each in failed_canaries(facts.estimates, judge)
    )
    unproven = f"it {join(failed)}" if failed else None
    for accuracy in accuracies:
        if unproven is None and accuracy.low <= 0.5:
            unproven = f"its accuracy on `{accuracy.suite}`, {interval(accuracy, 0.5)}, is not shown to exceed chance"
    for rule in rules:
        if unproven is None and rule.low <= 0:
            better = f"{LENGTH_RULES[rule.metric]} ({interval(rule, 0)})"
            unproven = f"on `{rule.suite}` it is not shown to be more accurate than {better}"
    trained = {name for name in facts.candidates if set(models).intersection(facts.upstream(name)) and name not in models}
    trained |= {name for name in facts.candidates if facts.rewarded(name, judge)}
    return Standing(judge, accuracies[0] if accuracies else None, unproven, frozenset(trained), failed)
