"""The verdict in words. No sentence claims more than its interval and its exact test support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from .evidence import FEW, Direction, difference, direction, primary
from .judges import Standing, standings
from .power import what_would_tell
from .side_effects import side_effects
from .text import decimals_for, interval_words, join, label, number, percent, prompts_in_words

if TYPE_CHECKING:
    from harness.records import Estimate

    from .facts import Facts

SEEDS = (
    "{trained} seeds, and intervals cover the training as well as the choice of prompts{but}. The two parts of each "
    "error stand under Training seeds; answers, curves and the judges' audit are those of the first seed."
)
PREFERENCES = "A win rate is the mean preference over prompts, where 1 is a win, 0.5 a tie and 0 a loss."
SCOPE = (
    "Intervals cover the choice of prompts, not training: each model was trained once, and training it again with another "
    "seed may move these numbers by more than their intervals. `seeds: [1, 2, 3]` in the plan measures by how much."
)


@dataclass(frozen=True)
class Claim:
    """One sentence of the verdict, which way it goes for its model, what has to be said beside it, and the estimate that it
    rests on."""

    model: str
    direction: Direction
    text: str
    beside: tuple[str, ...] = ()
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Verdict:
    """What the run shows: sentences on the candidates, and what has to be kept in mind with them."""

    claims: tuple[Claim, ...]
    notes: tuple[str, ...]


def verdict(facts: Facts) -> Verdict:
    """Claims on each candidate against the baseline, and on the candidates against each other."""
    known = standings(facts)
    claims = [claim for model in facts.candidates if (claim := _against_baseline(facts, known, model))]
    claims += _between_candidates(facts)
    if not claims:
        return Verdict((), ())
    notes = [_scope(facts, [each.estimate for each in claims if each.estimate])]
    if any(each.metric == "win-rate" and each.value not in (0, 1) for each in facts.observations):
        notes.append(PREFERENCES)
    compared = len(facts.candidates)
    if compared > 3:
        notes.append(
            f"{compared} candidates were compared. The tests behind the sentences are adjusted for that (Holm's method), the "
            "intervals are not: expect a lucky one among many."
        )
    notes += [note for each in known.values() if (note := each.note())]
    return Verdict(tuple(claims), tuple(notes))


def _scope(facts: Facts, estimates: Sequence[Estimate]) -> str:
    """What the intervals of these estimates cover."""
    if not facts.seeds:
        return SCOPE
    seeds = len({each.training_seed for each in facts.seeds})
    once = [f"{label(each.model)} against {label(str(each.baseline))}" for each in estimates if not each.seeds]
    every = all(each.seeds == seeds for each in estimates)
    trained = f"Every stage was trained with {seeds}" if every else f"Stages were trained with up to {seeds}"
    but = f"; for {join(once)} there is one training at most, and only the choice of prompts is covered" if once else ""
    return SEEDS.format(trained=trained, but=but)


def _against_baseline(facts: Facts, known: Mapping[str, Standing], model: str) -> Claim | None:
    estimates = [each for each in facts.select("win-rate", model) if each.baseline == facts.baseline]
    if not estimates:
        return None
    estimate = primary(facts, model)
    if estimate is None:
        judges = join([f"`{name}`" for name in dict.fromkeys(each.judge for each in estimates if each.judge)])
        return Claim(model, "undecided", f"No verdict on {label(model)}: {judges} cannot judge it (see the notes).")
    way = direction(estimate, 0.5)
    name, baseline = label(model), label(str(estimate.baseline))
    rate = percent(estimate.value, _decimals(estimate))
    prompts = prompts_in_words(estimate) + (f" and {estimate.seeds} training seeds" if estimate.seeds else "")
    evidence = f"{interval_words(estimate, 0.5)}{_judged(estimate)} on `{estimate.suite}`, {prompts}"
    others = _other_judges(facts, known, estimate)
    against = [each for each in others if {way, direction(each, 0.5)} == {"better", "worse"}]
    if against:
        views = join([f"{percent(each.value)} by `{each.judge}` ({interval_words(each, 0.5)})" for each in against])
        return Claim(
            model,
            "undecided",
            f"Judges contradict each other on {name} against {baseline}: its win rate is {rate} ({evidence}), but {views}.",
            estimate=estimate,
        )
    if way == "better":
        text = f"{name} beats {baseline}: its win rate is {rate} ({evidence})."
    elif way == "worse":
        text = f"{name} loses to {baseline}: its win rate is {rate} ({evidence})."
    else:
        text = f"{name} and {baseline} are not distinguishable: the win rate of {name} is {rate} ({evidence})."
        text += _why_undecided(estimate, 0.5)
    doubtful = [each for each in others if way != "undecided" and direction(each, 0.5) == "undecided"]
    if doubtful:
        views = join([f"`{each.judge}` ({percent(each.value)}, {interval_words(each, 0.5)})" for each in doubtful])
        text += f" Not confirmed by {views}."
    return Claim(model, way, text, side_effects(facts, model, estimate.suite), estimate)


def _other_judges(facts: Facts, known: Mapping[str, Standing], estimate: Estimate) -> list[Estimate]:
    return [
        each
        for each in facts.select("win-rate", estimate.model, estimate.suite, baseline=estimate.baseline)
        if each.judge and each.judge != estimate.judge and known[each.judge].may_judge(each.model)
    ]


def _between_candidates(facts: Facts) -> list[Claim]:
    """Every pair of up to three candidates; of more, the one ahead against each of the others."""
    pairs = list(combinations(facts.candidates, 2))
    rates = {name: each.value for name in facts.candidates if (each := primary(facts, name))}
    if len(facts.candidates) > 3 and rates:
        ahead = max(rates, key=lambda name: rates[name])
        pairs = [pair for pair in pairs if ahead in pair]
    return [_compare(estimate) for one, other in pairs if (estimate := difference(facts, one, other))]


def _compare(estimate: Estimate) -> Claim:
    way = direction(estimate, 0.0)
    model, baseline = estimate.model, str(estimate.baseline)
    evidence = f"{interval_words(estimate, 0.0)}{_judged(estimate)} on `{estimate.suite}`"
    points = f"{number(100 * estimate.value, _decimals(estimate, 0.0), True)} points"
    if way == "undecided":
        names = f"{label(model)} and {label(baseline)}"
        text = f"{names} are not distinguishable: their win rates differ by {points} ({evidence})."
        text += _why_undecided(estimate, 0.0)
    else:
        first, second = (model, baseline) if way == "better" else (baseline, model)
        text = (
            f"{label(first)} is ahead of {label(second)}: the win rate of {label(model)} minus that of {label(baseline)} "
            f"is {points} ({evidence})."
        )
    return Claim(model, way, text, estimate=estimate)


def _judged(estimate: Estimate) -> str:
    return f", judged by `{estimate.judge}`" if estimate.judge else ""


def _decimals(estimate: Estimate, null: float = 0.5) -> int:
    return decimals_for(100 * estimate.low, 100 * estimate.high, 100 * null)


def _why_undecided(estimate: Estimate, null: float) -> str:
    test = "test over seeds and prompts" if estimate.seeds else "exact sign test"
    if estimate.low <= null <= estimate.high:
        if estimate.clusters < FEW:
            return f" With {prompts_in_words(estimate)} only a very large difference would show."
        return f" {text}" if (text := what_would_tell(estimate, null)) else ""
    if estimate.p_adjusted is not None and estimate.p_value != estimate.p_adjusted:
        return (
            f" The interval leaves {percent(null)} out, but the {test}, adjusted for the plan's comparisons by Holm's "
            f"method, does not (p = {estimate.p_adjusted:.2g})."
        )
    if estimate.p_value is not None:
        return f" The interval leaves {percent(null)} out, but the {test} does not (p = {estimate.p_value:.2g})."
    return f" {prompts_in_words(estimate)} are too few for this interval to be relied on."
