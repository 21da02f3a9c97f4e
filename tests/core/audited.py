"""Answers for hand-made judges to compare, and the audit of these judges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness import Judge, JudgeContext, Judgement, Message, Sample, ScoringJudge
from harness.components import Compute
from harness.evaluation.audit import AuditEvidence, audit_estimates
from harness.evaluation.canaries import canaries, judge_canaries
from harness.evaluation.steps import judge_pairs
from harness.evaluation.suites import LoadedSuite
from harness.plan.model import Bootstrap
from harness.records import Estimate, SuiteRow

CONTEXT = JudgeContext(Compute("cpu", "fp32", 1))
PROMPTS = 60


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
    plain = judge_pairs(judge.name, judge, None, {}, new, old, CONTEXT)
    return plain, judge_canaries(judge.name, judge, None, {}, list(canaries(SUITE, new, old)), CONTEXT)


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
