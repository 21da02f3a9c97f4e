"""Hand-made judges with one known flaw each, and answers for them to compare."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from harness import Judge, Judgement, Message, Pair, Sample, ScoringJudge, Verdict
from harness.components import Compute
from harness.evaluation.audit import AuditEvidence, audit_estimates
from harness.evaluation.canaries import canaries, judge_canaries
from harness.evaluation.steps import judge_pairs
from harness.evaluation.suites import LoadedSuite
from harness.plan.model import Bootstrap
from harness.records import Estimate, SuiteRow

COMPUTE = Compute("cpu", "fp32", 1)
PROMPTS = 60


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


def sample(model: str, number: int, answer: str) -> Sample:
    prompt = (Message(role="user", content=f"question {number}"),)
    return Sample(prompt_id=f"p{number}", suite="held", model=model, prompt=prompt, answer=answer, finish="stop",
                  tokens=1, logprob=-1.0, seed=0)  # fmt: skip


def answers(model: str) -> list[Sample]:
    """The new model is better on the even prompts and longer on those of every third."""
    made = []
    for number in range(PROMPTS):
        good, long = (number % 2 == 0, number % 3 == 0) if model == "new" else (number % 2 == 1, number % 3 != 0)
        made.append(sample(model, number, f"number {number % 10} {'and so on ' * (2 if long else 1)}merit {int(good)}"))
    return made


SUITE = LoadedSuite("held", tuple(SuiteRow(id=f"p{n}", prompt=f"question {n}") for n in range(PROMPTS)), "fingerprint")
ROOTS = {"held": {f"p{n}": f"p{n}" for n in range(PROMPTS)}}


def judged(judge: Judge) -> tuple[list[Judgement], list[Judgement]]:
    """A judge's preferences between the new and the old model, and in the canaries."""
    new, old = answers("new"), answers("old")
    plain = judge_pairs(judge.name, judge, None, {}, new, old, COMPUTE)
    return plain, judge_canaries(judge.name, judge, None, {}, list(canaries(SUITE, new, old)), COMPUTE)


def evidence(*judges: Judge, **fields: Any) -> AuditEvidence:
    """All that an audit of these judges looks at."""
    records = {judge.name: judged(judge) for judge in judges}
    return AuditEvidence(
        judgements={(name, "held"): plain for name, (plain, _) in records.items()},
        canaries={name: rows for name, (_, rows) in records.items()},
        roots=ROOTS,
        scoring=frozenset(judge.name for judge in judges if isinstance(judge, ScoringJudge)),
        **fields,
    )


def audited(found: AuditEvidence) -> tuple[dict[tuple[str, str], Estimate], list[str]]:
    """The estimates of an audit by model and metric, and what it could not estimate."""
    made: Iterable[Estimate | str] = list(audit_estimates(found, Bootstrap(resamples=400), 0))
    estimates = [each for each in made if isinstance(each, Estimate)]
    keyed = {(each.model, each.metric): each for each in estimates}
    return keyed, [each for each in made if isinstance(each, str)]
