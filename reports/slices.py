"""Estimates of the parts of a suite, and which of them differ from the baseline once it is counted how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .evidence import TOO_FEW
from .judges import standings
from .results import Value, null_of
from .text import count, interval, label, number, prompts, prompts_in_words

if TYPE_CHECKING:
    from harness.records import SliceEstimate

    from .facts import Facts


@dataclass(frozen=True)
class SliceRow:
    """One slice: its name, how many prompts it has at most, and the values of each model."""

    slice: str
    n: int
    cells: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class SliceTable:
    """One metric by one judge on one suite, by dimension."""

    suite: str
    metric: str
    judge: str | None
    models: tuple[str, ...]
    dimensions: tuple[tuple[str, tuple[SliceRow, ...]], ...]


@dataclass(frozen=True)
class Slices:
    """The tables, and the comparisons that stand out among all of them, in words."""

    tested: str
    standing_out: tuple[str, ...]
    tables: tuple[SliceTable, ...]


def slices(facts: Facts) -> Slices | None:
    """Every slice that was estimated; None without any."""
    if not facts.slices:
        return None
    known = standings(facts)
    tested = [each for each in facts.slices if each.p_adjusted is not None]
    found = [
        each
        for each in tested
        if _stands_out(each)
        # What a circular or unproven judge sees in a part is no more worth saying than what it sees in the whole.
        and (each.judge is None or known[each.judge].may_judge(*({each.model, str(each.baseline)} - {facts.baseline})))
    ]
    keys = dict.fromkeys((each.suite, each.metric, each.judge) for each in facts.slices)
    tables = tuple(_table(facts, *key) for key in keys)
    return Slices(count(len(tested), "comparison"), tuple(_words(each) for each in found), tables)


def _stands_out(each: SliceEstimate) -> bool:
    """An interval and an adjusted test that both exclude no difference, over enough prompts to trust the interval."""
    null = null_of(each)
    if null is None or each.p_adjusted is None or each.clusters < TOO_FEW:
        return False
    return each.p_adjusted <= 1 - each.level and not each.low <= null <= each.high


def _words(each: SliceEstimate) -> str:
    judge = f" by `{each.judge}`" if each.judge else ""
    return (
        f"{label(each.model)} against {label(str(each.baseline))}: `{each.metric}`{judge} on `{each.suite}`, {each.dimension} "
        f"`{each.slice}`: {interval(each, null_of(each))}, {prompts_in_words(each)}, adjusted p {number(each.p_adjusted or 0.0)}."
    )


def _table(facts: Facts, suite: str, metric: str, judge: str | None) -> SliceTable:
    mine = [each for each in facts.slices if (each.suite, each.metric, each.judge) == (suite, metric, judge)]
    present = {each.model for each in mine}
    models = tuple(name for name in dict.fromkeys([*facts.stages, *(each.model for each in mine)]) if name in present)
    dimensions = []
    for dimension in dict.fromkeys(each.dimension for each in mine):
        rows = []
        for name in dict.fromkeys(each.slice for each in mine if each.dimension == dimension):
            here = [each for each in mine if (each.dimension, each.slice) == (dimension, name)]
            cells = tuple(
                tuple(Value(interval(each, null_of(each)), each.baseline) for each in here if each.model == model)
                for model in models
            )
            rows.append(SliceRow(name, max(map(prompts, here)), cells))
        dimensions.append((dimension, tuple(rows)))
    return SliceTable(suite, metric, judge, models, tuple(dimensions))
