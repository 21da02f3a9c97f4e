"""The audit of an evaluation's judges: how they err, agree with each other and with people, and which canaries they fail."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..audit import CORRECTED, UNPARSED
from ..metrics import Measure
from ..records import Estimate, Judgement, Observation
from .canaries import misjudged, outcome

if TYPE_CHECKING:
    from ..plan.model import Bootstrap

Comparison = tuple[str, str, str, str]
Made = Estimate | str


@dataclass(frozen=True)
class AuditEvidence:
    """What an audit looks at.

    `judgements` are by judge and suite, `canaries` by judge, `roots` by suite and prompt. `people` holds what people said of
    some comparisons. `families` are of the compared models, `judge_families` of the judges; `scoring` names the judges that
    score each answer by itself, in no order.
    """

    judgements: Mapping[tuple[str, str], Sequence[Judgement]]
    canaries: Mapping[str, Sequence[Judgement]]
    roots: Mapping[str, Mapping[str, str]]
    people: Sequence[Judgement] = ()
    families: Mapping[str, str | None] = field(default_factory=dict)
    judge_families: Mapping[str, str | None] = field(default_factory=dict)
    scoring: frozenset[str] = frozenset()


def comparison(judgement: Judgement) -> Comparison:
    """Which two answers a judgement is about."""
    return judgement.suite, judgement.candidate, judgement.baseline, judgement.prompt_id


def people_said(evidence: AuditEvidence) -> tuple[dict[Comparison, int], list[str]]:
    """People's outcome of each comparison, 1, 0 or -1 for the candidate, and what was left out, in words.

    A label whose lengths are not those of the answers was given to other answers, and one of a prompt that was not judged
    has nothing to be held against. Several people's preferences count by their mean.
    """
    judged = {
        comparison(row): (row.candidate_length, row.baseline_length)
        for rows in evidence.judgements.values()
        for row in rows
    }
    found: dict[Comparison, list[float]] = {}
    stale = unknown = 0
    for row in evidence.people:
        key = comparison(row)
        if key not in judged:
            unknown += 1
        elif judged[key] != (row.candidate_length, row.baseline_length):
            stale += 1
        elif row.preference is not None:
            found.setdefault(key, []).append(row.preference)
    of = f"of {len(evidence.people)} judgements by people"
    told = []
    if unknown:
        told.append(f"{unknown} {of} are on prompts that were not compared in this run, and do not count")
    if stale:
        told.append(
            f"{stale} {of} were given to answers of other lengths than this run's, and do not count; label this run's"
        )
    return {key: outcome(math.fsum(each) / len(each)) for key, each in found.items()}, told


def audit_estimates(evidence: AuditEvidence, bootstrap: Bootstrap, seed: int) -> Iterator[Made]:
    """Every estimate of the judges, and the corrected win rates; a sentence for one that cannot be made."""
    people, told = people_said(evidence)
    yield from told
    maker = _Maker(evidence, people, bootstrap, seed)
    for judge, suite in evidence.judgements:
        yield from maker.of_judge(judge, suite)
    for judge, rows in evidence.canaries.items():
        yield from maker.of_canaries(judge, rows)
    for (one, suite), (other, same) in itertools.combinations(evidence.judgements, 2):
        if suite == same:
            yield from maker.of_two(one, other, suite)
    for judge, suite in evidence.judgements:
        yield from maker.against_people(judge, suite)


class _Maker:
    def __init__(self, evidence: AuditEvidence, people: Mapping[Comparison, int], bootstrap: Bootstrap, seed: int) -> None:
        self.evidence = evidence
        self.people = people
        self.options: dict[str, Any] = {"level": bootstrap.level, "resamples": bootstrap.resamples, "seed": seed}

    # --- a judge by itself ------------------------------------------------------------------------------------------------

    def of_judge(self, judge: str, suite: str) -> Iterator[Made]:
        """Unscored comparisons, and preferences for what should not matter."""
        rows = self.evidence.judgements[judge, suite]
        rate = self._rates(judge, suite)
        yield from rate("unscored", ((row, row.preference is None) for row in rows), "share of comparisons")
        unparsed = ((row, row.preference is None and any(text in (row.reason or "") for text in UNPARSED)) for row in rows)
        yield from rate("parse-failure", unparsed, "share of comparisons")
        decided = [(row, won) for row in rows if row.preference is not None and (won := outcome(row.preference))]
        longer = ((row, (row.candidate_length > row.baseline_length) == (won > 0)) for row, won in decided
                  if row.candidate_length != row.baseline_length)  # fmt: skip
        yield from rate("longer-preferred", longer, "share of decided comparisons", 0.5)
        yield from rate("own-preferred", self._own(judge, decided), "share of decided comparisons", 0.5)
        if judge not in self.evidence.scoring:
            yield from self._orders(judge, suite, rows)

    def _own(self, judge: str, decided: Sequence[tuple[Judgement, int]]) -> Iterator[tuple[Judgement, bool]]:
        """Decided comparisons in which exactly one answer is of the judge's family: whether that one won."""
        family, families = self.evidence.judge_families.get(judge), self.evidence.families
        for row, won in decided:
            sides = families.get(row.candidate), families.get(row.baseline)
            if family and None not in sides and (family == sides[0]) != (family == sides[1]):
                yield row, (family == sides[0]) == (won > 0)

    def _orders(self, judge: str, suite: str, rows: Sequence[Judgement]) -> Iterator[Made]:
        """What the order of the two answers does; over comparisons that were read in both."""
        rate = self._rates(judge, suite)
        both = []
        for row in rows:
            seen = {each.first: outcome(each.preference) for each in row.orders if each.preference is not None}
            if len(seen) == 2:
                both.append((row, seen))
        flips = ((row, seen["candidate"] != seen["baseline"]) for row, seen in both)
        yield from rate("swap-flip", flips, "share of comparisons")
        firsts = ((row, (won > 0) == (first == "candidate")) for row, seen in both for first, won in seen.items() if won)
        yield from rate("first-preferred", firsts, "share of decided readings", 0.5)

    def of_canaries(self, judge: str, rows: Sequence[Judgement]) -> Iterator[Made]:
        """How often the judge gets each canary wrong."""
        before = {comparison(row): row.preference for (name, _), found in self.evidence.judgements.items() if name == judge
                  for row in found}  # fmt: skip
        found: dict[str, list[tuple[Judgement, bool]]] = {}
        for row in rows:
            if (judged := misjudged(row, before)) is not None:
                found.setdefault(judged[0], []).append((row, judged[1]))
        for metric, each in found.items():
            yield from self._rates(judge, each[0][0].suite)(metric, each, "share of prompts")

    def _rates(self, of: str, suite: str, against: str | None = None) -> Callable[..., Iterator[Made]]:
        """Makes estimates of a judge from rows, each with whether, or how far, the judge did what the metric counts."""
        from .. import stats

        def rate(
            metric: str, rows: Iterable[tuple[Judgement, float]], unit: str, null: float | None = None
        ) -> Iterator[Made]:
            names: dict[str, Any] = {"suite": suite, "model": of, "judge": against or of, "metric": metric}
            roots = self.evidence.roots[suite]
            observations = [
                Observation(prompt_id=row.prompt_id, root=roots[row.prompt_id], value=float(value), **names)
                for row, value in rows
            ]
            if observations:
                measure = Measure(name=metric, unit=unit, compare=False, null=null)
                try:
                    yield stats.estimate(observations, measure, **self.options)
                except stats.TooFewPrompts as error:
                    yield str(error)

        return rate

    # --- two judges -------------------------------------------------------------------------------------------------------

    def of_two(self, one: str, other: str, suite: str) -> Iterator[Made]:
        """The share of equal verdicts of two judges, and Cohen's kappa, over comparisons that both scored."""
        outcomes = {
            comparison(row): outcome(row.preference)
            for row in self.evidence.judgements[other, suite]
            if row.preference is not None
        }
        both = [
            (row, outcome(row.preference), outcomes[comparison(row)])
            for row in self.evidence.judgements[one, suite]
            if row.preference is not None and comparison(row) in outcomes
        ]
        names = {"model": one, "judge": other, "suite": suite}
        equal = [(row, first == second) for row, first, second in both]
        yield from self._rates(one, suite, other)("agreement", equal, "share of comparisons")
        yield from self._kappa("kappa", both, names)

    def _kappa(self, metric: str, both: Sequence[tuple[Judgement, int, int]], names: Mapping[str, Any]) -> Iterator[Made]:
        from .. import stats

        columns = [[first for _, first, _ in both], [second for _, _, second in both]]
        rows = [row for row, _, _ in both]
        yield from self._fitted(rows, columns, stats.cohen_kappa, metric=metric, unit="agreement beyond chance", **names)

    def _fitted(
        self, rows: Sequence[Judgement], columns: Sequence[Sequence[float]], statistic: Callable[..., Any], **names: Any
    ) -> Iterator[Made]:
        from .. import stats

        roots = [self.evidence.roots[row.suite][row.prompt_id] for row in rows]
        if rows:
            try:
                yield stats.estimate_columns(columns, roots, statistic, **names, **self.options)
            except stats.TooFewPrompts as error:
                yield str(error)

    # --- people -----------------------------------------------------------------------------------------------------------

    def against_people(self, judge: str, suite: str) -> Iterator[Made]:
        """How a judge agrees with people, and every win rate by it on this suite, corrected for its errors against them."""
        scored = [row for row in self.evidence.judgements[judge, suite] if row.preference is not None]
        known = [(row, self.people[comparison(row)]) for row in scored if comparison(row) in self.people]
        if not known:
            return
        both = [(row, outcome(float(row.preference or 0)), said) for row, said in known]
        names = {"model": judge, "judge": judge, "suite": suite}
        decided = [(row, mine == said) for row, mine, said in both if mine and said]
        yield from self._rates(judge, suite)("human-accuracy", decided, "share of decided comparisons")
        yield from self._kappa("human-kappa", both, names)

        rate, right = self._rates(judge, suite), [(row, float(row.preference or 0), said) for row, said in known]
        sides = [
            *rate("human-sensitivity", ((row, mine) for row, mine, said in right if said > 0), "share of preferences"),
            *rate("human-specificity", ((row, 1 - mine) for row, mine, said in right if said < 0), "share of preferences"),
        ]
        yield from sides
        if sum(each.low for each in sides if isinstance(each, Estimate)) <= 1:
            yield (
                f"{CORRECTED} by {judge} on {suite}: sensitivity + specificity against people is not shown to exceed 1, so "
                "the judge may tell nothing; label more comparisons, of both outcomes"
            )
            return
        yield from self._corrected(judge, suite, scored)

    def _corrected(self, judge: str, suite: str, scored: Sequence[Judgement]) -> Iterator[Made]:
        from .. import stats

        codes = {1: 1.0, -1: 0.0, 0: 0.5}
        labels = [codes[self.people[key]] if (key := comparison(row)) in self.people else math.nan for row in scored]
        for pair in dict.fromkeys((row.candidate, row.baseline) for row in scored):
            target = [float((row.candidate, row.baseline) == pair) for row in scored]
            used = [i for i in range(len(scored)) if target[i] or not math.isnan(labels[i])]
            columns = [
                [float(scored[i].preference or 0) for i in used],
                [labels[i] for i in used],
                [target[i] for i in used],
            ]
            names = {"model": pair[0], "judge": judge, "suite": suite, "baseline": pair[1]}
            rows = [scored[i] for i in used]
            yield from self._fitted(
                rows, columns, stats.corrected_win_rate, metric=CORRECTED, unit="share of prompts", **names
            )


__all__ = ["AuditEvidence", "audit_estimates", "comparison", "people_said"]
