"""Training curves: which of the logged values to show, and in which panels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.trends import Curve

    from .facts import Facts

POINTS = 200
PANELS = 24
_KINDS = tuple(
    rf"(^|[^a-z])({kind})([^a-z]|$)"
    for kind in (
        "loss",
        "(?<!token_)accurac(y|ies)",
        "margins?",
        "(?<!min_)(?<!max_)(rewards?|scores?)",
        "kl",
        "entropy",
        "grad_norm",
    )
)
_BORING = re.compile(
    r"(^|[^a-z])(learning_rate|lr|epoch|seconds?|time|runtime|tokens|samples|steps?|memory)([^a-z]|$)", re.IGNORECASE
)
_SPLIT = re.compile(r"^(train|valid|eval|test)[_/]", re.IGNORECASE)


@dataclass(frozen=True)
class Panel:
    """One small chart: a measure over steps, a line per split."""

    title: str
    lines: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]


@dataclass(frozen=True)
class StageCurves:
    """The panels of one stage; `left_out` names what was logged and is not shown, single values among it."""

    stage: str
    panels: tuple[Panel, ...]
    left_out: tuple[str, ...]


def training_curves(facts: Facts) -> tuple[StageCurves, ...]:
    """The panels of every stage that logged something."""
    logged = {stage: series for stage in facts.own_stages if (series := facts.series(stage))}
    most = max(2, min(6, PANELS // max(1, len(logged))))
    return tuple(_stage_curves(stage, series, most) for stage, series in logged.items())


def _stage_curves(stage: str, series: Mapping[str, Curve], most: int) -> StageCurves:
    measures: dict[str, list[str]] = {}
    for name in series:
        measures.setdefault(_SPLIT.sub("", name), []).append(name)
    shown = _ranked(name for name, names in measures.items() if any(len(series[each]) > 1 for each in names))[:most]
    panels = [Panel(name, tuple((_split(each), _thin(series[each])) for each in measures[name])) for name in shown]
    left_out = sorted(each for name, names in measures.items() if name not in shown for each in names)
    return StageCurves(stage, tuple(panels), tuple(left_out))


def _ranked(names: Iterable[str]) -> list[str]:
    """Measures of learning, the first of each kind before the second of any."""
    kinds: dict[int, list[str]] = {}
    for name in names:
        if not _BORING.search(name):
            kinds.setdefault(_kind(name), []).append(name)
    places = [(place, kind, name) for kind, members in kinds.items() for place, name in enumerate(members)]
    return [name for _, _, name in sorted(places)]


def _kind(name: str) -> int:
    return next((kind for kind, pattern in enumerate(_KINDS) if re.search(pattern, name, re.IGNORECASE)), len(_KINDS))


def _split(name: str) -> str:
    found = _SPLIT.match(name)
    return found[1].lower() if found else "train"


def _thin(curve: Curve) -> tuple[tuple[float, float], ...]:
    """At most POINTS points, each the mean of neighbours."""
    width = -(-len(curve) // POINTS)
    chunks = [curve[start : start + width] for start in range(0, len(curve), width)]
    return tuple((fmean(step for step, _ in chunk), fmean(value for _, value in chunk)) for chunk in chunks)
