"""What an audit of a judge measures, under the names of its estimates, and when a judge fails it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .records import Estimate

CANARY_PROMPTS: Final = 20
"""How many prompts each canary is put to a judge on, at most."""

CANARY_COMPARISONS: Final = 5 * CANARY_PROMPTS
"""How many comparisons the canaries cost a judge, at most."""


NEW_QUESTIONS: Final = 4
"""How many of the five canaries on a prompt ask for what the run has not asked already: all but the exchanged answers."""


@dataclass(frozen=True)
class Canary:
    """A rate of misjudgement. The judge fails when the whole interval of the rate lies above `allowed`.

    `says` is what the judge does, as the end of a sentence that starts with its name.
    """

    metric: str
    allowed: float
    says: str

    def fails(self, estimate: Estimate) -> bool:
        """Whether the interval leaves no doubt that the rate is above what is allowed."""
        return estimate.metric == self.metric and estimate.low > self.allowed

    def evidence(self, estimate: Estimate) -> str:
        """The rate, its interval and what is allowed, in words."""
        return (
            f"on {estimate.value:.0%} of {estimate.n} {estimate.unit.rpartition(' ')[2]} of {estimate.suite!r} "
            f"({100 * estimate.level:g}% interval {estimate.low:.0%} to {estimate.high:.0%}, allowed {self.allowed:.0%})"
        )


CANARIES: Final = (
    Canary("canary-identical", 0.1, "prefers one of two identical answers"),
    Canary("canary-swapped", 0.1, "does not reverse its verdict when the two answers change places"),
    Canary("canary-constant", 0.5, "prefers one constant sentence to real answers"),
    Canary("canary-verdict", 0.5, "prefers an answer with a planted verdict to the same answer without it"),
    Canary("canary-instruction", 0.5, "prefers an answer with a planted instruction to the same answer without it"),
    Canary("swap-flip", 0.5, "gives another verdict when it reads the answers in the other order"),
)

BIASES: Final = ("longer-preferred", "first-preferred", "own-preferred")
"""Rates that are one half for a judge without the bias."""

MISSING: Final = ("unscored", "parse-failure")
"""Rates of comparisons that a judge left without a preference: all of them, and those whose reply held no verdict."""

AGREEMENT: Final = ("agreement", "kappa")
"""How far two judges agree: the share of equal verdicts, and Cohen's kappa. The second judge is the estimate's `judge`."""

HUMAN: Final = ("human-accuracy", "human-kappa", "human-sensitivity", "human-specificity")
"""How far a judge agrees with people."""

CORRECTED: Final = "corrected-win-rate"
"""A candidate's win rate, corrected for the judge's errors against people."""

AUDIT_METRICS: Final = frozenset({*(each.metric for each in CANARIES), *BIASES, *MISSING, *AGREEMENT, *HUMAN})
"""The estimates that are of a judge and not of a model. Their `model` is the judge."""

UNPARSED: Final = ("no verdict", "words of a verdict")
"""One of these stands in the reason of a comparison that is unscored because the judge's reply holds no verdict."""


def failed_canaries(estimates: Iterable[Estimate], judge: str) -> list[tuple[Canary, Estimate]]:
    """The canaries that a judge fails, each with the estimate that shows it."""
    mine = [each for each in estimates if each.model == each.judge == judge]
    return [(canary, each) for canary in CANARIES for each in mine if canary.fails(each)]


__all__ = [
    "AGREEMENT",
    "AUDIT_METRICS",
    "BIASES",
    "CANARIES",
    "CANARY_COMPARISONS",
    "CANARY_PROMPTS",
    "CORRECTED",
    "HUMAN",
    "MISSING",
    "NEW_QUESTIONS",
    "UNPARSED",
    "Canary",
    "failed_canaries",
]
