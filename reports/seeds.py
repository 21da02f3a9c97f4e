"""What became of several training seeds: every seed's estimate beside the one over all, and where its error comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .results import null_of
from .text import interval, is_difference, is_fraction, number

if TYPE_CHECKING:
    from harness.records import Estimate, SeedEstimate

    from .facts import Facts

FIRST = ("win-rate", "accuracy", "kl")
"""Metrics that are shown without a click."""


@dataclass(frozen=True)
class SeedRow:
    """One estimate over all seeds, each seed's value, and the standard errors that seeds and prompts alone would give."""

    model: str
    versus: str | None
    overall: str
    values: tuple[str, ...]
    seed_error: str
    prompt_error: str


@dataclass(frozen=True)
class SeedTable:
    """One metric by one judge on one suite; `first` if it is shown without a click."""

    metric: str
    judge: str | None
    suite: str
    unit: str
    first: bool
    rows: tuple[SeedRow, ...]


@dataclass(frozen=True)
class Seeds:
    """The training seeds, and a table for each metric, judge and suite."""

    seeds: tuple[int, ...]
    tables: tuple[SeedTable, ...]


def training_seeds(facts: Facts) -> Seeds | None:
    """Every estimate that is over several training seeds; None where each model was trained once."""
    over = [each for each in facts.estimates if each.seeds]
    if not over:
        return None
    seeds = tuple(dict.fromkeys(each.training_seed for each in facts.seeds))
    by_seed = {(_key(each), each.training_seed): each for each in facts.seeds}
    groups: dict[tuple[str, str | None, str], list[Estimate]] = {}
    for each in over:
        groups.setdefault((each.metric, each.judge, each.suite), []).append(each)
    tables = [
        SeedTable(
            *key,
            unit="%" if is_fraction(found[0]) else found[0].unit,
            first=key[0] in FIRST,
            rows=tuple(_row(each, [by_seed.get((_key(each), seed)) for seed in seeds]) for each in found),
        )
        for key, found in groups.items()
    ]
    return Seeds(seeds, tuple(sorted(tables, key=lambda each: not each.first)))


def _key(estimate: Estimate) -> tuple[str | None, ...]:
    return estimate.model, estimate.metric, estimate.judge, estimate.suite, estimate.baseline


def _row(estimate: Estimate, values: list[SeedEstimate | None]) -> SeedRow:
    scale = 100 if is_fraction(estimate) else 1
    return SeedRow(
        estimate.model,
        estimate.baseline,
        interval(estimate, null_of(estimate)),
        tuple("–" if each is None else number(scale * each.value, sign=is_difference(each)) for each in values),
        number(scale * (estimate.seed_error or 0.0)),
        number(scale * (estimate.prompt_error or 0.0)),
    )
