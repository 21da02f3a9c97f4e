"""Charts as inline SVG: deterministic, without colours of their own (the style sheet sets them), text escaped.

matplotlib draws with the placeholder colours below, and each becomes a CSS variable, so that one picture serves light, dark
and print. pyplot is not used: importing it costs more than all the charts.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.stats import ReliabilityBin

    from .curves import Panel

_INK, _MUTED, _GRID = "#101112", "#707172", "#d0d1d2"
_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _GRID: "--line"} | {
    colour: f"--series-{number}" for number, colour in enumerate(_SERIES, 1)
}
_COLOUR = re.compile("|".join(_VARIABLES))
_MARKERS = "osD^vP"
_SCALE = 1.35
"""Pixels for a point of a chart at full width, so that its text is as large as the page's small text."""
_STYLES = ("-", "--", ":", "-.")
_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "harness",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10,
    "axes.titlecolor": _INK,
    "axes.titlelocation": "left",
    "axes.formatter.use_mathtext": False,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Point:
    """A value with its interval; `solid` is False where no verdict may rest on it."""

    label: str
    value: float
    low: float
    high: float
    group: int = 0
    solid: bool = True


@dataclass(frozen=True)
class Spot:
    """A point of the KL chart: two values of one model, each with its interval."""

    x: Point
    y: Point


@dataclass(frozen=True)
class Line:
    """Points of one kind over the values of a swept option."""

    label: str
    points: tuple[tuple[Any, Point], ...]


def forest(name: str, points: Sequence[Point], title: str, description: str) -> Markup:
    """Win rates with intervals, one a line, and the line of no difference at one half."""
    width = 7.6
    margin = min(0.55, 0.02 + 0.0102 * max(len(point.label) for point in points))
    height = 0.62 + 0.3 * len(points)
    with _figure(width, height, margin, 0.03, 0.1 / height, 0.5 / height) as (axes, buffer):
        axes.axvline(50, color=_MUTED, linewidth=1, linestyle="--")
        for row, point in enumerate(points):
            colour = _SERIES[point.group % len(_SERIES)]
            axes.plot([100 * point.low, 100 * point.high], [row, row], color=colour, linewidth=1.8)
            marker = _MARKERS[point.group % len(_MARKERS)]
            axes.plot(
                100 * point.value, row, marker, color=colour, markersize=6, fillstyle="full" if point.solid else "none"
            )
        axes.set_yticks(range(len(points)), [point.label for point in points])
        axes.set_ylim(len(points) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.set_xlabel("win rate against the baseline, %")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
    return _inline(buffer.getvalue(), name, title, description)


def curves(name: str, panel: Panel, description: str) -> Markup:
    """One measure over training steps."""
    with _figure(3.3, 2.2, 0.19, 0.04, 0.19, 0.23) as (axes, buffer):
        for number, (split, points) in enumerate(panel.lines):
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                label=split,
                marker="o" if len(points) == 1 else None,
                color=_SERIES[number % len(_SERIES)],
                linestyle=_STYLES[number % len(_STYLES)],
                linewidth=1.5,
            )
        axes.set_title(panel.title, y=1, pad=14)
        axes.set_xlabel("step")
        axes.grid(axis="y")
        if len(panel.lines) > 1:
            axes.legend(fontsize=8)
    return _inline(buffer.getvalue(), name, panel.title, description)


def reliability(name: str, bins: Sequence[ReliabilityBin], title: str, description: str) -> Markup:
    """Share of pairs ranked correctly against confidence; an honest model lies on the diagonal."""
    with _figure(3.8, 3.0, 0.16, 0.04, 0.05, 0.17) as (axes, buffer):
        axes.plot([50, 100], [50, 100], color=_MUTED, linewidth=1, linestyle="--")
        x = [100 * each.confidence for each in bins]
        y = [100 * each.correct for each in bins]
        reach = [[100 * (each.correct - each.low) for each in bins], [100 * (each.high - each.correct) for each in bins]]
        axes.errorbar(x, y, yerr=_clipped(reach), fmt="o-", color=_SERIES[0], linewidth=1.2, elinewidth=1.5, markersize=5)
        axes.set_xlim(49, 101)
        axes.set_ylim(0, 102)
        axes.set_xlabel("confidence, %")
        axes.set_ylabel("correct, %")
        axes.grid()
    return _inline(buffer.getvalue(), name, title, description)


def scatter(name: str, spots: Sequence[Spot], title: str, description: str) -> Markup:
    """Win rate against the KL divergence that it cost."""
    with _figure(5.4, 3.2, 0.12, 0.04, 0.05, 0.17) as (axes, buffer):
        axes.axhline(50, color=_MUTED, linewidth=1, linestyle="--")
        for spot in spots:
            place = spot.y.group
            axes.errorbar(
                spot.x.value,
                100 * spot.y.value,
                xerr=_clipped([[spot.x.value - spot.x.low], [spot.x.high - spot.x.value]]),
                yerr=_clipped([[100 * (spot.y.value - spot.y.low)], [100 * (spot.y.high - spot.y.value)]]),
                fmt=_MARKERS[place % len(_MARKERS)],
                color=_SERIES[place % len(_SERIES)],
                fillstyle="full" if spot.y.solid else "none",
                elinewidth=1.5,
                markersize=6,
                label=spot.y.label,
            )
        axes.set_xlim(left=min(0.0, *(spot.x.low for spot in spots), 0.0))
        axes.set_ylim(0, 100)
        axes.set_xlabel("KL from the reference, nats per answer")
        axes.set_ylabel("win rate, %")
        axes.grid()
        axes.legend(fontsize=9, loc="lower right")
    return _inline(buffer.getvalue(), name, title, description)


def swept(name: str, lines: Sequence[Line], option: str, label: str, null: float | None, description: str) -> Markup:
    """A measure over the values of an option, with intervals; `null` is the value of no difference.

    Numbers stand at their place, on a logarithmic axis where they span a factor of ten; other values in their order.
    """
    values = list(dict.fromkeys(value for line in lines for value, _ in line.points))
    names = {value: point.label for line in lines for value, point in line.points}
    numbers = not any(isinstance(value, str | bool) for value in values)
    places = {value: float(value) if numbers else float(place) for place, value in enumerate(values)}
    legend = 0.17 * len(lines) if len(lines) > 1 else 0.0
    height = 2.5 + legend
    with _figure(3.6, height, 0.17, 0.05, (0.15 + legend) / height, 0.5 / height) as (axes, buffer):
        if numbers and min(values) > 0 and max(values) >= 10 * min(values):
            axes.set_xscale("log")
        if null is not None:
            axes.axhline(null, color=_MUTED, linewidth=1, linestyle="--")
        for number, line in enumerate(lines):
            points = sorted((places[value], point.value, point.low, point.high) for value, point in line.points)
            x, y, low, high = zip(*points, strict=True)
            reach = [[v - at for v, at in zip(y, low, strict=True)], [at - v for v, at in zip(y, high, strict=True)]]
            axes.errorbar(
                x,
                y,
                yerr=_clipped(reach),
                fmt=_MARKERS[number % len(_MARKERS)] + _STYLES[number % len(_STYLES)],
                color=_SERIES[number % len(_SERIES)],
                linewidth=1.2,
                elinewidth=1.5,
                markersize=5,
                label=line.label,
            )
        axes.set_xticks([places[value] for value in values], [names[value] for value in values])
        axes.minorticks_off()
        axes.margins(x=0.08)
        if null is None:
            axes.set_ylim(bottom=min(0.0, *(point.low for line in lines for _, point in line.points), 0.0))
        axes.set_xlabel(option)
        axes.set_ylabel(label)
        axes.grid(axis="y")
        if len(lines) > 1:
            # Above the axes: no place inside is surely free of points.
            axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, labelspacing=0.25)
    return _inline(buffer.getvalue(), name, f"{label} over {option}", description)


def _clipped(reach: list[list[float]]) -> list[list[float]]:
    """Error bars without the negative lengths that rounding, or a value outside its own interval, would give."""
    return [[max(0.0, value) if math.isfinite(value) else 0.0 for value in side] for side in reach]


@contextmanager
def _figure(
    width: float, height: float, left: float, right: float, top: float, bottom: float
) -> Iterator[tuple[Axes, Any]]:
    """Axes to draw on, in inches and with margins as fractions, and the buffer that holds the SVG afterwards."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, height))
        FigureCanvasSVG(figure)
        axes = figure.add_axes((left, bottom, 1 - left - right, 1 - top - bottom))
        axes.set_axisbelow(True)
        yield axes, buffer
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})


def _inline(svg: str, name: str, title: str, description: str) -> Markup:
    """An SVG document as an element of the page: no name spaces, metadata or style sheet, own ids, title and
    description."""
    root = ElementTree.fromstring(svg)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    for element in list(root.iter()):
        for child in list(element):
            if _local(child.tag) in {"metadata", "style"}:
                element.remove(child)
        element.tag = _local(element.tag)
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            if _local(key) == "id" and value not in used:
                continue
            value = re.sub(r"url\(#", f"url(#{name}-", value)
            if _local(key) == "id" or (_local(key) == "href" and value.startswith("#")):
                value = f"#{name}-{value[1:]}" if _local(key) == "href" else f"{name}-{value}"
            element.set(_local(key), _COLOUR.sub(lambda match: f"var({_VARIABLES[match[0]]})", value))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    width = float(root.attrib["viewBox"].split()[2])
    root.attrib |= {
        "class": "chart",
        "role": "img",
        "aria-labelledby": f"{name}-title",
        "aria-describedby": f"{name}-desc",
        "style": f"max-width: {_SCALE * width:.0f}px",
    }
    for tag, text in (("desc", description), ("title", title)):
        child = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        child.text = text
        root.insert(0, child)
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=False))


def _local(name: str) -> str:
    return name.rpartition("}")[2]
