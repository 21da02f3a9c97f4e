"""Numbers and names as the report writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.records import Estimate

_ACRONYMS = frozenset({"sft", "dpo", "ppo", "orpo", "simpo", "kto", "ipo", "grpo"})
_SPACE = "\u00a0"
_MINUS = "\u2212"


def label(model: str) -> str:
    """A stage's name in a sentence: `dpo` as DPO, any other name as code."""
    return model.upper() if model in _ACRONYMS else f"`{model}`"


def join(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def count(n: int, noun: str) -> str:
    """`1 prompt`, `2,000 prompts`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def prompts(estimate: Estimate) -> int:
    """How many prompts an estimate is of: every training seed observes the same ones."""
    return max(estimate.clusters, math.ceil(estimate.n / (estimate.seeds or 1)))


def prompts_in_words(estimate: Estimate) -> str:
    """`378 prompts`; `378 prompts in 359 groups` where some were resampled together. A reward model's are pairs."""
    n = prompts(estimate)
    text = count(n, "pair" if estimate.unit.endswith("pairs") else "prompt")
    return text if n == estimate.clusters else f"{text} in {count(estimate.clusters, 'group')}"


def number(value: float, decimals: int | None = None, sign: bool = False) -> str:
    """A number with three significant digits, or with the given decimals; a true minus, thousands apart."""
    if decimals is None:
        if value and not 1e-3 <= abs(value) < 1e6:
            return f"{value:{'+' if sign else ''}.2e}".replace("-", _MINUS)
        decimals = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
        text = f"{value:{'+' if sign else ''},.{decimals}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{value:{'+' if sign else ''},.{decimals}f}"
    return text.replace("-", _MINUS) if float(text.replace(",", "")) else text.lstrip("+-")


def percent(value: float, decimals: int = 0) -> str:
    """A fraction as `68 %`."""
    return f"{number(100 * value, decimals)}{_SPACE}%"


def is_fraction(estimate: Estimate) -> bool:
    """Whether the value is a share of something, to be written in percent."""
    return estimate.unit == "probability" or estimate.unit.startswith("share")


def decimals_for(low: float, high: float, null: float | None = None) -> int:
    """Decimals that suit an interval's half-width, and never round one of its ends onto `null`."""
    half = (high - low) / 2
    if half <= 0:
        return next((decimals for decimals in range(3) if round(low, decimals) == low), 3)
    decimals = min(6, max(0, -math.floor(math.log10(half))))
    if null is not None:
        for end in (low, high):
            while end != null and decimals < 6 and round(end, decimals) == round(null, decimals):
                decimals += 1
    return decimals


def interval(estimate: Estimate, null: float | None = None) -> str:
    """`68 % [61, 74]`; a difference carries its sign: `+3.1 [1.0, 5.2]`."""
    scale = 100 if is_fraction(estimate) else 1
    signed = is_difference(estimate)
    if null is None and signed:
        null = 0.0
    low, high = scale * estimate.low, scale * estimate.high
    decimals = decimals_for(low, high, None if null is None else scale * null)
    unit = "" if scale == 1 else f"{_SPACE}pp" if signed else f"{_SPACE}%"
    ends = ", ".join(number(end, decimals) for end in (low, high))
    return f"{number(scale * estimate.value, decimals, signed)}{unit} [{ends}]"


def level(estimate: Estimate) -> str:
    """The level of its interval: `95 %`, `99.5 %`."""
    return f"{100 * estimate.level:g}{_SPACE}%"


def interval_words(estimate: Estimate, null: float) -> str:
    """`95 % interval 61–74 %`, for a sentence about a share; `−2 to +8 points` for a difference of shares."""
    low, high = 100 * estimate.low, 100 * estimate.high
    decimals = decimals_for(low, high, 100 * null)
    words = f"{level(estimate)} interval"
    if is_difference(estimate):
        return f"{words} {number(low, decimals, True)} to {number(high, decimals, True)} points"
    return f"{words} {number(low, decimals)}–{number(high, decimals)}{_SPACE}%"


def is_difference(estimate: Estimate) -> bool:
    """Whether the value is a difference, from a model or a rule. A win rate compares two models, but is itself a level."""
    return "-vs-" in estimate.metric or (estimate.baseline is not None and not estimate.metric.endswith("win-rate"))


def seconds(value: float | None) -> str:
    """A duration: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if value is None:
        return "–"
    if value < 60:
        return f"{value:.1f}{_SPACE}s" if value < 10 else f"{value:.0f}{_SPACE}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{_SPACE}min {rest}{_SPACE}s"
    return f"{minutes // 60}{_SPACE}h {minutes % 60}{_SPACE}min"


def size(value: float | None) -> str:
    """Bytes as MiB or GiB."""
    if value is None:
        return "–"
    mib = value / 2**20
    return f"{mib / 1024:.1f}{_SPACE}GiB" if mib >= 1024 else f"{mib:.0f}{_SPACE}MiB"


def amount(value: float | None) -> str:
    """A count, in thousands or millions where it is large."""
    if value is None:
        return "–"
    for limit, suffix in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{number(value / (1e3 if suffix == 'k' else limit), 1)}{_SPACE}{suffix}"
    return number(value, 0)
