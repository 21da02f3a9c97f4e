"""The page of `harness analyze`: win rates, differences, rankings, from the document that its --json prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.records import Estimate

from . import charts
from .text import count, interval, number, percent

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_ROWS = 40
WIN_RATES = ("win-rate", "length-controlled-win-rate", "length-control-gap")


@dataclass(frozen=True)
class Model:
    """A model's row: raw, at equal lengths, gap, and what became of its judgements."""

    name: str
    baseline: str
    values: tuple[str, ...]
    outcomes: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """Two models on their common prompts."""

    model: str
    other: str
    text: str
    prompts: str
    p_value: str
    p_adjusted: str


@dataclass(frozen=True)
class Ranked:
    """A place in the ranking."""

    model: str
    rank: str
    ranks: str
    strength: str
    groups: str


@dataclass(frozen=True)
class Part:
    """What one judge says on one suite."""

    judge: str
    suite: str
    chart: Markup
    models: tuple[Model, ...]
    differences: tuple[Difference, ...]
    ranked: tuple[Ranked, ...]
    ranking_note: str


def render_analysis(document: Mapping[str, Any]) -> str:
    """One HTML file without a request to anywhere. Names and notes are escaped: they come from the files."""
    from .render import page

    estimates = [Estimate.model_validate(each) for each in document["estimates"]]
    keys = dict.fromkeys((each["judge"], each["suite"]) for each in document["counts"])
    parts = [_part(document, estimates, *key, number_) for number_, key in enumerate(keys)]
    judged = sum(each["judgements"] for each in document["counts"])
    return page("analysis.html.j2", parts=parts, notes=document["notes"], judged=count(judged, "judgement"))


def _part(document: Mapping[str, Any], estimates: Sequence[Estimate], judge: str, suite: str, place: int) -> Part:
    mine = [each for each in estimates if (each.judge, each.suite) == (judge, suite)]
    by = {(each.model, each.baseline, each.metric): each for each in mine}
    counts = [each for each in document["counts"] if (each["judge"], each["suite"]) == (judge, suite)]
    counts.sort(key=lambda each: -_value(by.get((each["model"], each["baseline"], "win-rate"))))
    rates = [each for each in mine if each.metric in WIN_RATES[:2]]
    places = {(row["model"], row["baseline"]): place for place, row in enumerate(counts)}
    rates.sort(key=lambda each: places[each.model, str(each.baseline)])
    several = len({each.baseline for each in rates}) > 1
    points = [
        charts.Point(_label(each, several), each.value, each.low, each.high, WIN_RATES.index(each.metric))
        for each in rates[:MOST_ROWS]
    ]
    words = "; ".join(f"{point.label}: {percent(point.value, 1)}" for point in points)
    ranking = next((each for each in document["rankings"] if (each["judge"], each["suite"]) == (judge, suite)), None)
    return Part(
        judge=judge,
        suite=suite,
        chart=charts.forest(f"rates-{place}", points, "Win rates against the baseline, with intervals", words),
        models=tuple(_model(each, by) for each in counts),
        differences=tuple(_difference(each) for each in mine if each.metric == "win-rate-difference"),
        ranked=tuple(_ranked(each) for each in ranking["standings"]) if ranking else (),
        ranking_note="" if ranking is None else _note(ranking),
    )


def _label(estimate: Estimate, several: bool) -> str:
    against = f" against {estimate.baseline}" if several else ""
    return f"{estimate.model}{against}{'' if estimate.metric == 'win-rate' else ' · equal lengths'}"


def _value(estimate: Estimate | None) -> float:
    return -1.0 if estimate is None else estimate.value


def _model(row: Mapping[str, Any], by: Mapping[tuple[str, str | None, str], Estimate]) -> Model:
    found = [by.get((row["model"], row["baseline"], metric)) for metric in WIN_RATES]
    values = tuple("–" if each is None else interval(each, 0.0 if "gap" in each.metric else 0.5) for each in found)
    outcomes = tuple(f"{row[name]:,}" for name in ("wins", "ties", "losses", "nulls"))
    return Model(row["model"], row["baseline"], values, outcomes)


def _difference(each: Estimate) -> Difference:
    p_values = ("–" if value is None else number(value) for value in (each.p_value, each.p_adjusted))
    return Difference(each.model, str(each.baseline), interval(each, 0.0), f"{each.n:,}", *p_values)


def _ranked(each: Mapping[str, Any]) -> Ranked:
    ends = ", ".join("unbounded" if end is None else number(end, 2, True) for end in (each["low"], each["high"]))
    ranks = dict.fromkeys((each["rank_low"], each["rank_high"]))
    return Ranked(
        each["model"],
        str(each["rank"]),
        "–".join(map(str, ranks)),
        f"{number(each['strength'], 2, True)} [{ends}]",
        " ".join(each["groups"]),
    )


def _note(ranking: Mapping[str, Any]) -> str:
    return (
        f"Bradley-Terry strengths in logits from the mean of all models, a tie as half a win each way, from "
        f"{ranking['resamples']:,} resamples of {count(ranking['clusters'], 'prompt')}. Models that share a letter cannot be told "
        "apart."
    )
