"""Which estimate a statement rests on, and which way that estimate goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .judges import standings

if TYPE_CHECKING:
    from harness.records import Estimate

    from .facts import Facts

Direction = Literal["better", "worse", "undecided"]
FEW = 30
TOO_FEW = 10


def direction(estimate: Estimate, null: float) -> Direction:
    """Which way an estimate differs from `null`, where its interval and, if it has one, its exact test both say so.

    The test counts as it was adjusted for the plan's comparisons, where it was. A sample of equal values has an interval
    without width; only the exact test counts there. Without such a test, fewer than ten groups of prompts decide nothing:
    resampling so few is not to be relied on.
    """
    if estimate.low <= null <= estimate.high:
        return "undecided"
    p_value = estimate.p_value if estimate.p_adjusted is None else estimate.p_adjusted
    if p_value is None and (estimate.low == estimate.high or estimate.clusters < TOO_FEW):
        return "undecided"
    if p_value is not None and p_value > 1 - estimate.level:
        return "undecided"
    return "better" if estimate.value > null else "worse"


def turned(way: Direction) -> Direction:
    """The same difference, seen from the other side."""
    return "undecided" if way == "undecided" else "worse" if way == "better" else "better"


def primary(facts: Facts, model: str) -> Estimate | None:
    """The win rate that the verdict on a model rests on: the first suite, and on it the first judge that may judge the
    model."""
    return _first(facts, [each for each in facts.select("win-rate", model) if each.baseline == facts.baseline])


def difference(facts: Facts, one: str, other: str) -> Estimate | None:
    """The difference of two candidates' win rates, either way round, by the first judge that may judge both."""
    found = [
        *facts.select("win-rate-difference", one, baseline=other),
        *facts.select("win-rate-difference", other, baseline=one),
    ]
    return _first(facts, found)


def _first(facts: Facts, estimates: list[Estimate]) -> Estimate | None:
    known = standings(facts)
    allowed = [
        each
        for each in estimates
        if each.judge is None or known[each.judge].may_judge(*({each.model, str(each.baseline)} - {facts.baseline}))
    ]
    return min(allowed, key=lambda each: _order(facts, each), default=None)


def _order(facts: Facts, estimate: Estimate) -> tuple[int, int]:
    return facts.suites.index(estimate.suite), facts.judges.index(estimate.judge) if estimate.judge else -1
