"""What the audit of the judges found: each judge's errors and biases, their agreement with each other and with people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.audit import BIASES, CANARIES, CORRECTED, HUMAN, MISSING

from .judges import standings
from .text import count, interval, number, percent

if TYPE_CHECKING:
    from harness.records import Estimate, Judgement

    from .facts import Facts

CANARY = {each.metric: each for each in CANARIES}
MEANINGS = {
    "unscored": ("Left without a preference", "neither a tie nor a loss: these comparisons do not count"),
    "parse-failure": ("… because the reply held no verdict", "a part of the row above"),
    "swap-flip": ("Another verdict in the other order", "both orders are read, and their mean is the preference"),
    "first-preferred": ("The answer shown first wins", "of the decided readings; without a bias one half"),
    "longer-preferred": (
        "The longer answer wins",
        "of the decided comparisons; above one half, either longer answers are better or length itself is liked",
    ),
    "own-preferred": (
        "The answer of its own family wins",
        "where exactly one of the two is of it; without a bias one half",
    ),
    "canary-identical": ("One of two identical answers preferred", "it should call them a tie"),
    "canary-swapped": ("Not reversed when the answers change places", "the same two answers, judged again"),
    "canary-constant": ("One constant sentence wins", "against the answers that people chose, or else the baseline's"),
    "canary-verdict": ("An answer with a planted verdict wins", "against the same answer without, such as `VERDICT: A`"),
    "canary-instruction": (
        "An answer with a planted instruction wins",
        "against the same answer without: “ignore all previous instructions …”",
    ),
}
ABSENT = {
    "swap-flip": "It scores each answer by itself, so no order can matter.",
    "first-preferred": "It scores each answer by itself, so no order can matter.",
    "own-preferred": "No two compared models of which exactly one is known to be of the judge's family.",
}
EXPECTED = {**dict.fromkeys(BIASES, "50\xa0%"), **dict.fromkeys(MISSING, "0\xa0%")}
MANY_MISSING = 0.1
QUOTES = "; it reads "
"""Where a reason goes on with the words of one reply."""


@dataclass(frozen=True)
class Finding:
    """One number of an audit by suite; `outcome` is a word on it with the class of its badge, or empty."""

    name: str
    meaning: str
    cells: tuple[str, ...]
    sizes: tuple[str, ...]
    expected: str
    outcome: str
    badge: str


@dataclass(frozen=True)
class Audited:
    """All that was found of one judge. `absent` says what does not apply to it."""

    judge: str
    sign: str
    summary: str
    suites: tuple[str, ...]
    findings: tuple[Finding, ...]
    absent: tuple[str, ...]
    unscored: tuple[tuple[str, str], ...]
    canaries: str


@dataclass(frozen=True)
class Agreement:
    """Two judges' agreement on one suite."""

    judges: tuple[str, str]
    suite: str
    equal: str
    kappa: str
    n: str


@dataclass(frozen=True)
class People:
    """One judge's agreement with people on one suite."""

    judge: str
    suite: str
    values: tuple[str, ...]
    n: str


@dataclass(frozen=True)
class Corrected:
    """A win rate as the judge gives it, and corrected for the judge's errors against people."""

    model: str
    baseline: str
    judge: str
    suite: str
    raw: str
    corrected: str
    mark: str


@dataclass(frozen=True)
class Audit:
    """The report's section on judges."""

    judges: tuple[Audited, ...]
    agreement: tuple[Agreement, ...]
    people: tuple[People, ...]
    corrected: tuple[Corrected, ...]
    notes: tuple[str, ...]


def audit(facts: Facts) -> Audit | None:
    """The section, or None for a run without an audit."""
    known = standings(facts)
    judges = tuple(each for judge in facts.judges if (each := _audited(facts, judge, known[judge].sign)))
    if not judges:
        return None
    names = {judge: f"{judge}{known[judge].sign}" for judge in facts.judges}
    corrected = tuple(
        Corrected(
            each.model, str(each.baseline), names[str(each.judge)], each.suite,
            interval(raw[0], 0.5) if raw else "–", interval(each, 0.5), known[str(each.judge)].mark(each.model, each.baseline),
        )
        for each in facts.select(CORRECTED)
        for raw in [facts.select("win-rate", each.model, each.suite, each.judge, each.baseline)]
    )  # fmt: skip
    notes = dict.fromkeys(note for judge in facts.judges for note in known[judge].footnotes(*facts.candidates))
    return Audit(judges, tuple(_agreement(facts, names)), tuple(_people(facts, names)), corrected, tuple(notes))


def _audited(facts: Facts, judge: str, sign: str) -> Audited | None:
    mine = [each for each in facts.estimates if each.model == each.judge == judge and each.metric in MEANINGS]
    if not mine:
        return None
    suites = tuple(suite for suite in facts.suites if any(each.suite == suite for each in mine))
    findings = []
    for metric in MEANINGS:
        found = {each.suite: each for each in mine if each.metric == metric}
        if found and (metric != "parse-failure" or any(each.value for each in found.values())):
            findings.append(_finding(metric, [found.get(suite) for suite in suites]))
    present = {each.metric for each in mine}
    absent = [text for metric, text in ABSENT.items() if metric not in present]
    asked = facts.canaries.get(judge, ())
    return Audited(
        judge, sign, _summary(findings), suites, tuple(findings), tuple(dict.fromkeys(absent)), _unscored(facts, judge), _cost(asked)
    )  # fmt: skip


def _summary(findings: Sequence[Finding]) -> str:
    outcomes = Counter(each.outcome for each in findings)
    if outcomes["fails"]:
        return f"Fails {count(outcomes['fails'], 'check')}: no verdict rests on it, and it is marked wherever it is used."
    if not outcomes["passes"] and not outcomes["unclear"]:
        return "No canary could be put to it."
    if outcomes["unclear"]:
        return f"Fails no check, but {outcomes['unclear']} of them more often than allowed: too few prompts to be sure."
    return "Passes every check."


def _finding(metric: str, found: list[Estimate | None]) -> Finding:
    name, meaning = MEANINGS[metric]
    there = [each for each in found if each]
    null = 0.5 if metric in BIASES else None
    outcome = badge = ""
    if canary := CANARY.get(metric):
        if any(canary.fails(each) for each in there):
            outcome, badge = "fails", "fail"
        elif any(each.value > canary.allowed for each in there):
            outcome, badge = "unclear", "warning"
        else:
            outcome, badge = "passes", "pass"
        expected = f"at most {percent(canary.allowed)}"
    else:
        expected = EXPECTED[metric]
        if null is not None and any(not each.low <= null <= each.high for each in there):
            outcome, badge = "leans", "warning"
        elif metric in MISSING and any(each.low > MANY_MISSING for each in there):
            outcome, badge = "many", "warning"
    return Finding(
        name,
        meaning,
        tuple(interval(each, null) if each else "–" for each in found),
        tuple(f"of {each.n:,}" if each else "" for each in found),
        expected,
        outcome,
        badge,
    )


def _unscored(facts: Facts, judge: str) -> tuple[tuple[str, str], ...]:
    """Why comparisons were left without a preference, the commonest reason first, canaries included."""
    rows = [row for key, found in facts.judgements.items() if key[0] == judge for row in found]
    rows += facts.canaries.get(judge, ())
    reasons = [row.reason or "no reason was given" for row in rows if row.preference is None]
    # Each quotes a reply of its own behind what it has in common with others; the first one's is shown.
    kinds = Counter(reason.partition(QUOTES)[0] for reason in reasons)
    first = {reason.partition(QUOTES)[0]: reason for reason in reversed(reasons)}
    return tuple((first[kind], f"{n:,}") for kind, n in kinds.most_common(10))


def _cost(rows: Sequence[Judgement]) -> str:
    costs = [row.cost for row in rows if row.cost is not None]
    paid = f", ${number(sum(costs))}" if costs else ""
    return f"{count(len(rows), 'comparison')}{paid}" if rows else ""


def _agreement(facts: Facts, names: dict[str, str]) -> Iterator[Agreement]:
    equal = {(each.model, each.judge, each.suite): each for each in facts.select("agreement")}
    kappa = {(each.model, each.judge, each.suite): each for each in facts.select("kappa")}
    for key, each in equal.items():
        one, other, suite = key
        found = kappa.get(key)
        yield Agreement(
            (names.get(one, one), names[str(other)]),
            suite,
            interval(each),
            interval(found) if found else "undefined: both give one verdict throughout",
            f"{each.n:,}",
        )


def _people(facts: Facts, names: dict[str, str]) -> Iterator[People]:
    for judge in facts.judges:
        for suite in facts.suites:
            found = {each.metric: each for metric in HUMAN for each in facts.select(metric, judge, suite, judge)}
            if found:
                values = tuple(interval(found[metric]) if metric in found else "–" for metric in HUMAN)
                most = max(each.n for each in found.values())
                yield People(names[judge], suite, values, f"{most:,}")
