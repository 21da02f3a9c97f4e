"""What the health rules said of each stage: verdicts in words, and which rules had enough to judge by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .text import count, join, number

if TYPE_CHECKING:
    from harness.records import HealthVerdict

    from .facts import Facts


@dataclass(frozen=True)
class Shown:
    """One verdict: its level, what was seen, where and against which bound, and what to do."""

    level: str
    text: str
    evidence: str
    advice: str


@dataclass(frozen=True)
class StageHealth:
    """The verdicts on one stage, and in words which rules found nothing and which could not judge."""

    stage: str
    aligner: str
    verdicts: tuple[Shown, ...]
    passed: str | None
    unjudged: str | None


def health(facts: Facts) -> tuple[StageHealth, ...]:
    """Every stage that a rule watches."""
    shown = []
    for stage in facts.stages:
        verdicts = [each for each in facts.health if each.stage == stage]
        judged, unjudged = facts.health_checked.get(stage, ((), ()))
        if verdicts or judged or unjudged:
            told = {each.rule for each in verdicts}
            passed, silent = ([f"`{name}`" for name in names if name not in told] for names in (judged, unjudged))
            shown.append(
                StageHealth(
                    stage,
                    facts.aligner(stage),
                    tuple(_shown(each) for each in sorted(verdicts, key=lambda each: each.level, reverse=True)),
                    f"Nothing found by {join(passed)}." if passed else None,
                    f"Too little was logged or measured for {join(silent)}." if silent else None,
                )
            )
    return tuple(shown)


def warnings_in_words(facts: Facts) -> str | None:
    """One sentence on all warnings, for the top of the report; None without any."""
    stages: dict[str, int] = {}
    for each in facts.health:
        if each.level == "warning":
            stages[each.stage] = stages.get(each.stage, 0) + 1
    if not stages:
        return None
    where = join([f"`{stage}`" for stage in stages])
    return f"{count(sum(stages.values()), 'health warning')} on {where}: see Health."


def _shown(verdict: HealthVerdict) -> Shown:
    when = "from the evaluation" if verdict.step is None else f"at step {verdict.step:,}"
    evidence = f"`{verdict.rule}`, {when}: {number(verdict.value)}. Healthy: {verdict.threshold}."
    return Shown(verdict.level, _sentence(verdict.text), evidence, verdict.advice)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
