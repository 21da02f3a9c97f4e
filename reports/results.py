"""The tables of all models and metrics, a table for each suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .text import interval, is_difference, is_fraction, number

if TYPE_CHECKING:
    from harness.records import Estimate

    from .facts import Facts


@dataclass(frozen=True)
class Value:
    """One estimate in a cell; `versus` is the model that it is a difference from, or was compared with."""

    text: str
    versus: str | None


@dataclass(frozen=True)
class Row:
    """A metric by one judge, with the values of each model."""

    metric: str
    judge: str | None
    unit: str
    cells: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class Table:
    """A suite's results: a column per model, a row per metric and judge."""

    suite: str
    reward_models: bool
    models: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Detail:
    """An estimate with everything that is known about how it was made."""

    estimate: Estimate
    text: str
    standard_error: str
    p_value: str
    p_adjusted: str
    method: str


def tables(facts: Facts) -> tuple[Table, ...]:
    """A table for every suite that has estimates, and another one for the reward models on it."""
    found = []
    for suite in facts.suites:
        for scorers in (False, True):
            estimates = [
                each for each in facts.estimates if each.suite == suite and (each.model in facts.reward_models) == scorers
            ]
            if estimates:
                found.append(_table(facts, suite, scorers, estimates))
    return tuple(found)


def details(facts: Facts) -> tuple[Detail, ...]:
    """Every estimate, in the order of metrics.json."""
    return tuple(
        Detail(
            each,
            interval(each, null_of(each)),
            "–" if each.standard_error is None else number(each.standard_error),
            "–" if each.p_value is None else number(each.p_value),
            "–" if each.p_adjusted is None else number(each.p_adjusted),
            each.method if each.resamples is None else f"{each.method}, {each.resamples:,} resamples",
        )
        for each in facts.estimates
    )


def null_of(estimate: Estimate) -> float | None:
    """The value that would mean no difference."""
    if is_difference(estimate):
        return 0.0
    return 0.5 if estimate.metric.endswith("win-rate") or estimate.metric == "accuracy" else None


def _table(facts: Facts, suite: str, scorers: bool, estimates: Sequence[Estimate]) -> Table:
    order = [*facts.stages, *(each.model for each in estimates)]
    present = {each.model for each in estimates}
    models = tuple(name for name in dict.fromkeys(order) if name in present)
    keys = dict.fromkeys((each.metric, each.judge) for each in estimates)
    rows = []
    for metric, judge in keys:
        found = [each for each in estimates if (each.metric, each.judge) == (metric, judge)]
        cells = tuple(
            tuple(Value(interval(each, null_of(each)), each.baseline) for each in found if each.model == model)
            for model in models
        )
        rows.append(Row(metric, judge, "" if is_fraction(found[0]) else found[0].unit, cells))
    return Table(suite, scorers, models, tuple(rows))
