"""Which charts the report has, and what each says in words for those who cannot see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.stats import lengths_overlap

from . import charts
from .judges import FAILED, standings
from .text import interval, level, number, percent

if TYPE_CHECKING:
    from markupsafe import Markup

    from .curves import StageCurves
    from .facts import Facts
    from .rewards import RewardModel

MOST_ROWS = 40
WIN_RATES = {
    "win-rate": "",
    "length-controlled-win-rate": "length-controlled",
    "corrected-win-rate": "corrected for the judge's errors",
}


@dataclass(frozen=True)
class Picture:
    """A chart with its caption."""

    svg: Markup
    caption: str


def win_rates(facts: Facts) -> Picture | None:
    """The forest plot of all win rates against the baseline, length-controlled ones too."""
    known = standings(facts)
    found = [each for metric in WIN_RATES for each in facts.select(metric, baseline=facts.baseline)]
    found.sort(key=lambda each: (facts.suites.index(each.suite), each.judge or "", _place(facts, each.model)))
    if not found:
        return None
    points = []
    for each in found[:MOST_ROWS]:
        judge = f"{each.judge}{known[each.judge].sign}" if each.judge else ""
        parts = [each.model, judge, each.suite, WIN_RATES[each.metric]]
        solid = each.judge is None or known[each.judge].may_judge(each.model)
        text = " · ".join(part for part in parts if part)
        points.append(charts.Point(text, each.value, each.low, each.high, _place(facts, each.model), solid))
    words = "; ".join(f"{point.label}: {interval(each, 0.5)}" for point, each in zip(points, found, strict=False))
    svg = charts.forest("win-rates", points, "Win rates against the baseline, with intervals", words)
    caption = (
        f"Win rates against `{facts.baseline}`, with {level(found[0])} intervals; a tie counts half, and the "
        "dashed line is no difference. Hollow: by a judge on which no verdict may rest."
    )
    if any(each.judge and known[each.judge].failed for each in found[:MOST_ROWS]):
        caption += f" {FAILED}: it fails its canaries."
    if len(found) > MOST_ROWS:
        caption += f" {len(found) - MOST_ROWS} more are in the tables."
    return Picture(svg, " ".join([caption, *_extrapolated(facts)]))


def _extrapolated(facts: Facts) -> Iterator[str]:
    """A sentence for each length-controlled win rate for which there are hardly any answers of equal lengths."""
    lengths: dict[tuple[str, str], dict[str, float]] = {}
    for each in facts.observations:
        if each.metric == "length-controlled-win-rate" and each.baseline == facts.baseline and each.covariates:
            lengths.setdefault((each.model, each.suite), {})[each.prompt_id] = each.covariates[0]
    for (model, suite), differences in lengths.items():
        if not lengths_overlap(np.array([*differences.values()])):
            side = "longer" if sum(differences.values()) > 0 else "shorter"
            yield (
                f"Nearly all answers of `{model}` on `{suite}` are {side} than the baseline's, so its length-controlled win rate "
                "is an extrapolation."
            )


def kl_against_win_rate(facts: Facts) -> tuple[Picture, ...]:
    """For every suite and judge with both numbers, win rate against KL."""
    known = standings(facts)
    pictures: list[Picture] = []
    for suite in facts.suites:
        for judge in facts.judges:
            spots = []
            for model in facts.candidates:
                rates = [each for each in facts.select("win-rate", model, suite, judge) if each.baseline == facts.baseline]
                divergence = facts.level_of("kl", model, suite)
                if rates and divergence:
                    solid = known[judge].may_judge(model)
                    points = [
                        charts.Point(model, each.value, each.low, each.high, _place(facts, model), solid)
                        for each in (divergence, rates[0])
                    ]
                    spots.append(charts.Spot(*points))
            if spots:
                words = "; ".join(
                    f"{spot.y.label}: KL {number(spot.x.value)}, win rate {percent(spot.y.value)}" for spot in spots
                )
                name = f"kl-{len(pictures)}"
                title = f"Win rate against KL, {judge} on {suite}"
                pictures.append(
                    Picture(
                        charts.scatter(name, spots, title, words), f"Judged by `{judge}`{known[judge].sign} on `{suite}`."
                    )
                )
    return tuple(pictures)


def stage_curves(stages: Sequence[StageCurves]) -> dict[str, tuple[Markup, ...]]:
    """The small charts of each stage."""
    return {
        each.stage: tuple(
            charts.curves(
                f"curve-{number_of}-{place}",
                panel,
                "; ".join(
                    f"{split}: from {number(points[0][1])} to {number(points[-1][1])} at step {points[-1][0]:.0f}"
                    for split, points in panel.lines
                ),
            )
            for place, panel in enumerate(each.panels)
        )
        for number_of, each in enumerate(stages)
    }


def calibration(models: Sequence[RewardModel]) -> tuple[Markup | None, ...]:
    """A reliability chart for each reward model that has scored pairs."""
    return tuple(
        charts.reliability(
            f"reliability-{place}",
            each.bins,
            f"Calibration of {each.model} on {each.suite}",
            "; ".join(f"confidence {percent(b.confidence)}: {percent(b.correct)} correct of {b.n}" for b in each.bins),
        )
        if each.bins
        else None
        for place, each in enumerate(models)
    )


def _place(facts: Facts, model: str) -> int:
    return facts.candidates.index(model) if model in facts.candidates else len(facts.candidates)
