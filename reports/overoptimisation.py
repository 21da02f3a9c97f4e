"""Over-optimisation: what each scorer says of the policies along a training, against how far they had moved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.trajectory import split

from . import charts
from .text import interval, label, number

if TYPE_CHECKING:
    from markupsafe import Markup

    from harness.records import Estimate

    from .facts import Facts


@dataclass(frozen=True)
class Path:
    """One scorer's view of a stage's policies. `trained_on` is whether the stage learned from this scorer."""

    scorer: str
    trained_on: bool
    chart: Markup
    text: str


@dataclass(frozen=True)
class Overoptimisation:
    """The policies of one stage, on one suite, as every scorer sees them."""

    stage: str
    suite: str
    policies: int
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class _Stop:
    step: float
    moved: float
    reward: Estimate


def overoptimisation(facts: Facts) -> tuple[Overoptimisation, ...]:
    """Every stage whose policies were kept along its training, and scored."""
    stages = dict.fromkeys((split(each.model)[0], each.suite) for each in facts.along)
    return tuple(found for stage, suite in stages if (found := _stage(facts, stage, suite)))


def _stage(facts: Facts, stage: str, suite: str) -> Overoptimisation | None:
    scorers = dict.fromkeys(each.judge for each in facts.along if each.metric == "reward" and each.judge)
    stops = {scorer: _stops(facts, stage, suite, scorer) for scorer in scorers}
    paths = [
        _path(facts, f"path-{stage}-{place}", stage, suite, scorer, found)
        for place, (scorer, found) in enumerate(stops.items())
        if len(found) > 1
    ]
    return Overoptimisation(stage, suite, max(map(len, stops.values())), tuple(paths)) if paths else None


def _stops(facts: Facts, stage: str, suite: str, scorer: str) -> list[_Stop]:
    """The policies in the order of training: where it began, those on the way, and the trained one."""
    found = []
    for each in facts.along:
        name, step = split(each.model)
        if (name, each.suite, each.metric, each.judge, each.baseline) == (stage, suite, "reward", scorer, None) and step:
            divergence = [e for e in facts.along if (e.model, e.suite, e.metric) == (each.model, suite, "kl")]
            found += [_Stop(step, math.sqrt(max(0.0, kl.value)), each) for kl in divergence]
    started = (facts.stages.get(stage, {}).get("slots") or {}).get("init") == facts.baseline
    for place, model in ((0.0, facts.baseline if started else None), (math.inf, stage)):
        levels = facts.select("reward", model, suite, scorer, baseline=None) if model else []
        kl = facts.level_of("kl", str(model), suite)
        moved = 0.0 if not place else math.sqrt(max(0.0, kl.value)) if kl else None
        found += [_Stop(place, moved, level) for level in levels if moved is not None]
    return sorted(found, key=lambda stop: stop.step)


def _path(facts: Facts, name: str, stage: str, suite: str, scorer: str, stops: list[_Stop]) -> Path:
    points = [
        (stop.moved, charts.Point(number(stop.moved), stop.reward.value, stop.reward.low, stop.reward.high))
        for stop in stops
    ]
    trained_on = scorer in facts.upstream(stage) or facts.rewarded(stage, scorer)
    words = "; ".join(f"root KL {point.label}: {number(point.value)}" for _, point in points)
    chart = charts.swept(
        name, [charts.Line(scorer, tuple(points))], "√KL from the reference", f"score by {scorer}", None, words
    )
    turns = facts.select("turning-point", stage, suite, scorer)
    return Path(scorer, trained_on, chart, _text(stage, scorer, turns[0] if turns else None, stops, trained_on))


def _text(stage: str, scorer: str, turn: Estimate | None, stops: list[_Stop], trained_on: bool) -> str:
    who = f"`{scorer}`, which {label(stage)} was trained against," if trained_on else f"`{scorer}`"
    last = stops[-1].moved
    if turn is None:
        return f"{who} has too few prompts to tell where it likes the policy best."
    if turn.high < last:
        return (
            f"{who} likes the policy best at √KL {interval(turn)} and less at the end, at {number(last)}: past its best. Stop "
            "there, or keep the policy closer to its reference."
        )
    return f"{who} shows no turning point up to √KL {number(last)}: it likes the policy best at {interval(turn)}."
