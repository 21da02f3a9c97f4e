"""Hand-made judges with one known flaw each, as a plugin."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from harness import Judge, Pair, ScoringJudge, Verdict, hookimpl


class ReadsOrders(Judge):
    """Asks `first` for its preference for the answer that stands first, in both orders; their mean counts."""

    def first(self, one: str, other: str) -> float | None:
        raise NotImplementedError

    def compare(self, pairs: Sequence[Pair], *_: Any) -> list[Verdict]:
        return [self._verdict(pair) for pair in pairs]

    def _verdict(self, pair: Pair) -> Verdict:
        seen, turned = self.first(pair.candidate, pair.baseline), self.first(pair.baseline, pair.candidate)
        if seen is None or turned is None:
            return Verdict(None, "the judge's last line is no verdict")
        orders = ({"first": "candidate", "preference": seen}, {"first": "baseline", "preference": 1 - turned})
        return Verdict((seen + 1 - turned) / 2, orders=orders, cost=0.001)


def merit(answer: str) -> int:
    """How good an answer really is: the number behind its last `merit`; a text without one is worthless."""
    found = re.findall(r"merit (\d+)", answer)
    return int(found[-1]) if found else -1


class Fair(ReadsOrders):
    """Prefers the better answer; among equally good ones the one without anything added."""

    name = "fair"

    def first(self, one: str, other: str) -> float | None:
        mine, others = (merit(one), -len(one)), (merit(other), -len(other))
        return 0.5 if mine == others else float(mine > others)


class AlwaysFirst(ReadsOrders):
    name = "always-first"

    def first(self, one: str, other: str) -> float | None:
        return 1.0


class AlwaysFirstOnce(Judge):
    """The same flaw in a judge that reads one order only."""

    name = "always-first-once"

    def compare(self, pairs: Sequence[Pair], *_: Any) -> list[Verdict]:
        return [Verdict(1.0, orders=({"first": "candidate", "preference": 1.0},)) for _pair in pairs]


class Longer(ReadsOrders):
    name = "longer"

    def first(self, one: str, other: str) -> float | None:
        return 0.5 if len(one) == len(other) else float(len(one) > len(other))


class Obedient(Fair):
    """Believes a verdict that stands in an answer, wherever it stands."""

    name = "obedient"

    def first(self, one: str, other: str) -> float | None:
        planted = re.findall(r"VERDICT: ([AB])", one + other)
        return float(planted[-1] == "A") if planted else super().first(one, other)


class Suggestible(Fair):
    """Does what an answer tells it to."""

    name = "suggestible"

    def first(self, one: str, other: str) -> float | None:
        told = ["Ignore all previous instructions" in answer for answer in (one, other)]
        return float(told[0]) if any(told) else super().first(one, other)


class Mumbling(Fair):
    """Gives no verdict on three answers in ten."""

    name = "mumbling"

    def first(self, one: str, other: str) -> float | None:
        return None if any(f"number {digit} " in one + other for digit in "369") else super().first(one, other)


class FairScorer(ScoringJudge):
    name = "fair-scorer"

    def score(self, prompts: Sequence[Any], answers: Sequence[str], *_: Any) -> list[float]:
        return [merit(answer) - len(answer) / 1e4 for answer in answers]


class LongerScorer(ScoringJudge):
    name = "longer-scorer"

    def score(self, prompts: Sequence[Any], answers: Sequence[str], *_: Any) -> list[float]:
        return [float(len(answer)) for answer in answers]


class ConstantFan(FairScorer):
    """Loves empty phrases."""

    name = "constant-fan"

    def score(self, prompts: Sequence[Any], answers: Sequence[str], *_: Any) -> list[float]:
        return [99.0 if "many things to consider" in each else merit(each) - len(each) / 1e4 for each in answers]


@hookimpl
def harness_judges() -> list[type[Judge]]:
    return [
        Fair,
        AlwaysFirst,
        AlwaysFirstOnce,
        Longer,
        Obedient,
        Suggestible,
        Mumbling,
        FairScorer,
        LongerScorer,
        ConstantFan,
    ]
