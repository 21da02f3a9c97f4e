"""The tables of all models and metrics, a table for each suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.audit import AUDIT_METRICS, CORRECTED

from .judges import standings
from .text import interval, is_difference, is_fraction, number

if TYPE_CHECKING:
    from harness.records import Estimate

    from .facts import Facts


@dataclass(frozen=True)
class Value:
    """One estimate in a cell; `versus` is the model that it is a difference from, or was compared with; `mark` a word on
    what it is worth."""

    text: str
    versus: str | None
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """A metric by one judge, with the values of each model.

    `instrument` says how often what reads the answers is right; `sign` stands behind the judge's name.
    """

    metric: str
    judge: str | None
    unit: str
    instrument: str
    cells: tuple[tuple[Value, ...], ...]
    sign: str = ""


@dataclass(frozen=True)
class Table:
    """A suite's results: a column per model, a row per metric and judge; `notes` explain the signs."""

    suite: str
    reward_models: bool
    models: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Detail:
    """An estimate with everything that is known about how it was made."""

    estimate: Estimate
    text: str
    standard_error: str
    p_value: str
    p_adjusted: str
    method: str
    sign: str = ""
    mark: str = ""


def tables(facts: Facts) -> tuple[Table, ...]:
    """A table for every suite that has estimates, and another one for the reward models on it. Those of an audit are of
    judges, and in a section of their own."""
    found = []
    measured = [each for each in facts.estimates if each.metric not in AUDIT_METRICS]
    for suite in facts.suites:
        for scorers in (False, True):
            estimates = [
                each for each in measured if each.suite == suite and (each.model in facts.reward_models) == scorers
            ]
            if estimates:
                found.append(_table(facts, suite, scorers, estimates))
    return tuple(found)


def details(facts: Facts) -> tuple[Detail, ...]:
    """Every estimate, in the order of metrics.json."""
    known = standings(facts)
    return tuple(
        Detail(
            each,
            interval(each, null_of(each)),
            "–" if each.standard_error is None else number(each.standard_error),
            "–" if each.p_value is None else number(each.p_value),
            "–" if each.p_adjusted is None else number(each.p_adjusted),
            each.method if each.resamples is None else f"{each.method}, {each.resamples:,} resamples",
            known[each.judge].sign if each.judge else "",
            known[each.judge].mark(each.model, each.baseline) if each.judge else "",
        )
        for each in facts.estimates
    )


def null_of(estimate: Estimate) -> float | None:
    """The value that would mean no difference."""
    if is_difference(estimate):
        return 0.0
    return 0.5 if estimate.metric.endswith("win-rate") or estimate.metric == "accuracy" else None


def _instrument(facts: Facts, metric: str) -> str:
    found = facts.instrument(metric)
    measured = ", ".join(f"{each.metric} {interval(each)}" for each in found)
    return f"{found[0].model}: {measured}" if found else ""


def _table(facts: Facts, suite: str, scorers: bool, estimates: Sequence[Estimate]) -> Table:
    order = [*facts.stages, *(each.model for each in estimates)]
    present = {each.model for each in estimates}
    models = tuple(name for name in dict.fromkeys(order) if name in present)
    keys = dict.fromkeys((each.metric, each.judge) for each in estimates)
    known, rows = standings(facts), []
    for metric, judge in sorted(keys, key=lambda key: _place([*keys], key)):
        found = [each for each in estimates if (each.metric, each.judge) == (metric, judge)]
        standing = known[judge] if judge else None
        cells = tuple(
            tuple(
                Value(interval(each, null_of(each)), each.baseline, standing.mark(model, each.baseline) if standing else "")
                for each in found
                if each.model == model
            )
            for model in models
        )
        unit = "" if is_fraction(found[0]) else found[0].unit
        rows.append(Row(metric, judge, unit, _instrument(facts, metric), cells, standing.sign if standing else ""))
    judges = dict.fromkeys(judge for _, judge in keys if judge)
    notes = dict.fromkeys(note for judge in judges for note in known[judge].footnotes(*models))
    return Table(suite, scorers, models, tuple(rows), tuple(notes))


def _place(keys: Sequence[tuple[str, str | None]], key: tuple[str, str | None]) -> tuple[int, bool]:
    """A corrected win rate stands below the raw one by the same judge, all else in the order of metrics.json."""
    raw = ("win-rate", key[1])
    corrected = key[0] == CORRECTED and raw in keys
    return keys.index(raw if corrected else key), corrected
