"""What became of swept options: each variant of a stage with its values, its win rate and its KL."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import charts
from .evidence import primary
from .text import interval, join, number

if TYPE_CHECKING:
    from markupsafe import Markup

    from harness.records import Estimate

    from .facts import Facts


@dataclass(frozen=True)
class Variant:
    """One stage of a sweep: the values of its swept options, and what was measured of it."""

    stage: str
    values: tuple[str, ...]
    win_rate: str
    kl: str


@dataclass(frozen=True)
class Sweep:
    """All variants of a swept stage. `rated` says what the win rates rest on; None without any."""

    stage: str
    options: tuple[str, ...]
    variants: tuple[Variant, ...]
    charts: tuple[Markup, ...]
    rated: str | None


@dataclass(frozen=True)
class _Made:
    """A stage that a sweep made. `rest` is what its name ends with where another sweep made it, too."""

    stage: str
    values: tuple[Any, ...]
    rest: str


def sweeps(facts: Facts) -> tuple[Sweep, ...]:
    """A sweep for every swept stage of the plan, in its order, from estimates alone."""
    return tuple(_sweep(facts, place, stage, axes) for place, (stage, axes) in enumerate(_swept(facts).items()))


def _swept(facts: Facts) -> dict[str, dict[str, list[Any]]]:
    """The values of swept options, by stage and option. Both may hold dots: the stages that were made tell them apart."""
    found: dict[str, dict[str, list[Any]]] = {}
    for key, values in (facts.plan.get("sweep") or {}).items():
        parts = str(key).split(".")
        splits = [(".".join(parts[:n]), ".".join(parts[n:])) for n in range(len(parts) - 1, 0, -1)]
        made = (
            each
            for each in splits
            if any(name.startswith(f"{each[0]}-") and f"-{each[1]}-" in name for name in facts.own_stages)
        )
        stage, option = next(made, splits[0])
        found.setdefault(stage, {})[option] = list(values)
    return found


def _made(facts: Facts, stage: str, axes: Mapping[str, list[Any]]) -> Iterator[_Made]:
    """The stages that stand for a swept one: named STAGE-OPTION-VALUE, and with these values."""
    for values in itertools.product(*axes.values()):
        name = stage + "".join(f"-{option}-{_text(value)}" for option, value in zip(axes, values, strict=True))
        for found in facts.own_stages:
            options = facts.stages[found].get("options") or {}
            if (found == name or found.startswith(f"{name}-")) and [_option(options, option) for option in axes] == [
                *values
            ]:
                yield _Made(found, values, found.removeprefix(name).lstrip("-"))


def _sweep(facts: Facts, place: int, stage: str, axes: Mapping[str, list[Any]]) -> Sweep:
    made = list(_made(facts, stage, axes))
    rates = {each.stage: primary(facts, each.stage) for each in made}
    divergences = {each.stage: facts.level_of("kl", each.stage) for each in made}
    rows = tuple(
        Variant(
            each.stage,
            tuple(map(_text, each.values)),
            interval(rate, 0.5) if (rate := rates[each.stage]) else "–",
            interval(divergence) if (divergence := divergences[each.stage]) else "–",
        )
        for each in made
    )
    drawn = [
        charts.swept(f"sweep-{place}-{name}", lines, option, label, half, _words(lines, scale))
        for name, label, measured, scale, half in (
            ("win-rate", "win rate, %", rates, 100, 50.0),
            ("kl", "KL, nats per answer", divergences, 1, None),
        )
        if (lines := _lines(made, measured, [*axes], scale)) and (option := next(iter(axes)))
    ]
    sources = dict.fromkeys(f"`{rate.judge}` on `{rate.suite}`" for rate in rates.values() if rate)
    rated = f"Win rates against `{facts.baseline}`, judged by {join([*sources])}." if sources else None
    return Sweep(stage, tuple(axes), rows, tuple(drawn), rated)


def _lines(
    made: list[_Made], measured: Mapping[str, Estimate | None], options: list[str], scale: float
) -> tuple[charts.Line, ...]:
    """A line for each combination of all but the first option, over the first one's values."""
    lines: dict[str, list[tuple[Any, charts.Point]]] = {}
    for each in made:
        if (found := measured[each.stage]) is not None:
            others = [f"{option} {_text(value)}" for option, value in zip(options[1:], each.values[1:], strict=True)]
            name = ", ".join([*others, *([each.rest] if each.rest else [])])
            point = charts.Point(_text(each.values[0]), scale * found.value, scale * found.low, scale * found.high)
            lines.setdefault(name, []).append((each.values[0], point))
    return tuple(charts.Line(name, tuple(points)) for name, points in lines.items())


def _words(lines: tuple[charts.Line, ...], scale: float) -> str:
    unit = "\u00a0%" if scale == 100 else ""
    return "; ".join(
        f"{line.label + ', ' if line.label else ''}{point.label}: {number(point.value)}{unit} "
        f"[{number(point.low)}, {number(point.high)}]"
        for line in lines
        for _, point in line.points
    )


def _option(options: Any, name: str) -> Any:
    """The value of an option, which may lie within others."""
    for part in name.split("."):
        options = options.get(part) if isinstance(options, Mapping) else None
    return options


def _text(value: Any) -> str:
    """A value as the names of swept stages have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else f"{value:g}"
