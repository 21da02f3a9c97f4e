"""What a candidate's win rate comes with: how far it moved, how long its answers are, what it cost elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .evidence import Direction, direction, turned
from .text import interval, join, label

if TYPE_CHECKING:
    from harness.records import Estimate

    from .facts import Facts

Good = Literal["higher", "lower"]
COSTS: dict[str, tuple[str, Good]] = {
    "over-refusal": ("over-refusal of harmless prompts", "lower"),
    "unsafe-compliance": ("compliance with unsafe prompts", "lower"),
    "refusal-unsafe": ("refusal of unsafe prompts", "higher"),
    "instruction-following": ("instructions followed", "higher"),
    "chosen-loglik": ("log-likelihood of held-out answers", "higher"),
}
"""Measures of safety and of general ability: how a sentence calls them, and which direction is good."""


def side_effects(facts: Facts, model: str, suite: str) -> tuple[str, ...]:
    """Sentences on a candidate beside its win rate on `suite`; none about what was not measured."""
    return tuple(text for text in (_moved(facts, model, suite), _cost(facts, model)) if text)


def changes(facts: Facts, metric: str, model: str) -> list[Estimate]:
    """A measure's paired differences of a candidate from the baseline, one for each suite."""
    return facts.select(metric, model, baseline=facts.baseline) if facts.baseline else []


def _moved(facts: Facts, model: str, suite: str) -> str:
    parts = []
    if kl := facts.level_of("kl", model, suite):
        parts.append(f"it moved {interval(kl)} nats of KL per answer from its reference")
    for change in changes(facts, "length", model):
        if change.suite == suite:
            way = {"better": "are longer", "worse": "are shorter", "undecided": "show no clear difference in length"}
            than = "than" if direction(change, 0.0) != "undecided" else "from"
            parts.append(
                f"its answers {way[direction(change, 0.0)]} {than} {label(str(facts.baseline))}'s ({interval(change)} characters)"
            )
    text = join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _cost(facts: Facts, model: str) -> str:
    found: dict[Direction, list[str]] = {"worse": [], "better": [], "undecided": []}
    for metric, (name, good) in COSTS.items():
        for change in changes(facts, metric, model):
            way = direction(change, 0.0)
            found[way if good == "higher" else turned(way)].append(f"{name} on `{change.suite}` ({interval(change)})")
    against = label(str(facts.baseline))
    starts = {"worse": f"It does worse than {against} in", "better": f"It does better than {against} in"}
    return " ".join(f"{starts.get(way, 'No clear change in')} {join(names)}." for way, names in found.items() if names)
