"""The decision table: what each model wins, and what that costs, with the models that no other one is better than."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .evidence import Direction, difference, direction, primary, turned
from .side_effects import COSTS, Good
from .text import interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.records import Estimate

    from .facts import Facts


@dataclass(frozen=True)
class Axis:
    """One thing to decide by, on the suite where it was measured, and which direction is good; None if neither is."""

    metric: str
    title: str
    good: Good | None
    suite: str


@dataclass(frozen=True)
class Cell:
    """A model's value on an axis, and which way it is shown to differ from the baseline's.

    None for the baseline, and where no direction is good.
    """

    text: str
    versus_baseline: Direction | None


@dataclass(frozen=True)
class Row:
    """A model's row. `dominated_by` names a model that is shown better somewhere and is nowhere worse."""

    model: str
    cells: tuple[Cell, ...]
    dominated_by: str | None


@dataclass(frozen=True)
class Decision:
    """The table; empty without a baseline or a win rate."""

    axes: tuple[Axis, ...]
    rows: tuple[Row, ...]


def decision(facts: Facts) -> Decision:
    """The table of the baseline and all candidates, on every axis that was measured for all of them."""
    models = tuple(dict.fromkeys([*([facts.baseline] if facts.baseline else []), *facts.candidates]))
    axes = _axes(facts, models)
    if not axes:
        return Decision((), ())
    rows = []
    for model in models:
        over = next((other for other in models if other != model and dominates(facts, axes, other, model)), None)
        rows.append(Row(model, tuple(_cell(facts, axis, model) for axis in axes), over))
    return Decision(axes, tuple(rows))


def _cell(facts: Facts, axis: Axis, model: str) -> Cell:
    level, told = _level(facts, axis, model), axis.good and model != facts.baseline
    return Cell(level.text if level else "–", _shown(facts, axis, model, str(facts.baseline)) if told else None)


def dominates(facts: Facts, axes: Sequence[Axis], one: str, other: str) -> bool:
    """Pareto dominance that its evidence supports: `one` is shown better on some axis, and on none is its value worse."""
    axes = [axis for axis in axes if axis.good]
    for axis in axes:
        mine, theirs = _level(facts, axis, one), _level(facts, axis, other)
        if (
            mine is None
            or theirs is None
            or (mine.value < theirs.value if axis.good == "higher" else mine.value > theirs.value)
        ):
            return False
    return any(_shown(facts, axis, one, other) == "better" for axis in axes)


@dataclass(frozen=True)
class _Level:
    value: float
    low: float
    high: float
    text: str


def _level(facts: Facts, axis: Axis, model: str) -> _Level | None:
    """A model's value on an axis. The baseline wins half against itself, and has moved nowhere from itself."""
    if model == facts.baseline and axis.metric == "win-rate":
        return _Level(0.5, 0.5, 0.5, "50\u00a0%, itself")
    if model == facts.baseline and axis.metric == "kl":
        starts = {(facts.stages.get(name, {}).get("slots") or {}).get("init") for name in facts.candidates}
        return _Level(0.0, 0.0, 0.0, "0, itself") if starts == {model} else None
    found = primary(facts, model) if axis.metric == "win-rate" else facts.level_of(axis.metric, model, axis.suite)
    if found is None:
        return None
    text = interval(found, 0.5 if axis.metric == "win-rate" else None)
    return _Level(found.value, found.low, found.high, text)


def _axes(facts: Facts, models: Sequence[str]) -> tuple[Axis, ...]:
    """What was measured for all models: the win rate and what stands beside it on its suite, and the costs elsewhere."""
    suites = {rate.suite for name in models if name != facts.baseline and (rate := primary(facts, name))}
    if len(suites) != 1:
        return ()
    (suite,) = suites
    axes = [
        Axis("win-rate", f"win rate on {suite}", "higher", suite),
        Axis("kl", f"KL on {suite}, nats per answer", "lower", suite),
        *(
            Axis(metric, f"{name} on {where}", good, where)
            for metric, (name, good) in COSTS.items()
            for where in facts.suites
            if facts.select(metric, suite=where, baseline=None)
        ),
        Axis("length", f"length on {suite}, characters", None, suite),
    ]
    measured = tuple(axis for axis in axes if all(_level(facts, axis, model) for model in models))
    return measured if axes[0] in measured else ()


def _shown(facts: Facts, axis: Axis, one: str, other: str) -> Direction:
    """How `one` compares with `other` on an axis: by their paired difference, or by intervals that do not overlap."""
    for first, second, swapped in ((one, other, False), (other, one, True)):
        if paired := _paired(facts, axis, first, second):
            way = direction(*paired)
            return turned(way) if swapped != (axis.good == "lower") else way
    mine, theirs = _level(facts, axis, one), _level(facts, axis, other)
    if mine is None or theirs is None or (mine.low <= theirs.high and theirs.low <= mine.high):
        return "undecided"
    return "better" if (mine.value > theirs.value) == (axis.good == "higher") else "worse"


def _paired(facts: Facts, axis: Axis, one: str, other: str) -> tuple[Estimate, float] | None:
    """The estimate that compares `one` with `other` prompt by prompt, and its value if there is no difference."""
    if axis.metric != "win-rate":
        found = facts.select(axis.metric, one, axis.suite, baseline=other)
        return (found[0], 0.0) if found else None
    if other == facts.baseline:
        return (rate, 0.5) if (rate := primary(facts, one)) else None
    gap = difference(facts, one, other)
    return (gap, 0.0) if gap and gap.model == one else None
