"""The prompts that carry a metric: those that add most to a candidate's difference from the baseline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .answers import EACH, prompt_text, shuffled
from .results import null_of
from .text import interval, is_fraction, number

if TYPE_CHECKING:
    from harness.records import Estimate, Observation

    from .facts import Facts


@dataclass(frozen=True)
class Example:
    """A prompt, what it adds to the difference in the metric's unit, and both answers."""

    prompt: str
    adds: str
    candidate: str
    baseline: str


@dataclass(frozen=True)
class Carried:
    """A candidate's difference from the baseline in one metric, and the prompts that carry it."""

    candidate: str
    baseline: str
    metric: str
    judge: str | None
    suite: str
    difference: str
    examples: tuple[Example, ...]


def carried(facts: Facts) -> tuple[Carried, ...]:
    """For every difference from the baseline the prompts that add most to it, in its own direction.

    What a win rate rests on is shown side by side elsewhere.
    """
    groups: dict[tuple[str, str, str | None, str], list[Observation]] = {}
    for each in facts.observations:
        if each.baseline_value is not None:
            groups.setdefault((each.model, each.metric, each.judge, each.suite), []).append(each)
    return tuple(_carried(facts, groups))


def _carried(facts: Facts, groups: dict[tuple[str, str, str | None, str], list[Observation]]) -> Iterator[Carried]:
    for estimate in facts.estimates:
        key = (estimate.model, estimate.metric, estimate.judge, estimate.suite)
        if estimate.baseline is None or estimate.baseline != facts.baseline or key not in groups or not estimate.value:
            continue
        if examples := tuple(_examples(facts, estimate, groups[key])):
            yield Carried(
                estimate.model,
                estimate.baseline,
                estimate.metric,
                estimate.judge,
                estimate.suite,
                interval(estimate, null_of(estimate)),
                examples,
            )


def _examples(facts: Facts, estimate: Estimate, observed: list[Observation]) -> Iterator[Example]:
    mine, other = (
        {each.prompt_id: each for each in facts.samples.get((model, estimate.suite), ())}
        for model in (estimate.model, str(estimate.baseline))
    )
    gains = {each.prompt_id: each.value - (each.baseline_value or 0.0) for each in observed}
    sign = 1 if estimate.value > 0 else -1
    # Equal ones, as 0/1 values are, come in an order that depends on the seed alone.
    ranked = sorted(gains, key=lambda each: (-sign * gains[each], shuffled(facts.seed, each)))
    for prompt_id in [each for each in ranked if sign * gains[each] > 0 and each in mine and each in other][:EACH]:
        added = gains[prompt_id] / len(gains)
        adds = (
            f"{number(100 * added, 1, True)} pp" if is_fraction(estimate) else f"{number(added, sign=True)} {estimate.unit}"
        )
        yield Example(prompt_text(mine[prompt_id]), adds, mine[prompt_id].answer, other[prompt_id].answer)
