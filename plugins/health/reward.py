"""What may be wrong with a reward model."""

from __future__ import annotations

import math
from statistics import fmean, median

from harness import Finding, Readings, Rule, spread

WINDOW = 10
"""Logged values that a rate is judged by."""

NEAR_CHANCE = 0.55
CLEARLY_AHEAD = 0.05
ALIKE = 0.05
EXTREME = 20.0
STUCK = 0.02
RELOAD = 1e-3

CHANCE_ADVICE = (
    "Neither train nor judge with it: give it more pairs, more epochs, a higher learning rate or a larger base, and look at the "
    "worst-ranked pairs for labels that contradict each other."
)
LENGTH_ADVICE = (
    "A policy trained against it may learn length and nothing else: balance the lengths of chosen and rejected answers, or use "
    "more pairs."
)


def near_chance(readings: Readings) -> Finding | None:
    """Whether even the upper end of the interval of recent training accuracies is close to one half, or below it."""
    recent = spread(readings.last("accuracy", WINDOW))
    if recent.high >= NEAR_CHANCE:
        return None
    text = f"it ranks {recent.mean:.1%} of its training pairs correctly, {recent.low:.1%} to {recent.high:.1%}"
    return Finding(recent.mean, text)


def not_above_chance(readings: Readings) -> Finding | None:
    """Whether the interval of its held-out accuracy includes one half."""
    for each in readings.levels("accuracy"):
        if each.low <= 0.5:
            text = (
                f"its accuracy on `{each.suite}`, {each.value:.1%} with an interval of {each.low:.1%} to {each.high:.1%}, is not "
                "shown to exceed chance"
            )
            return Finding(each.value, text)
    return None


def at_length_baseline(readings: Readings) -> Finding | None:
    """Whether it ranks its training pairs no better than the better of the two rules that look at lengths alone."""
    shorter = readings.last("shorter_wins", WINDOW)
    accuracy = readings.last("accuracy", WINDOW)
    # One side for all windows: the better side of each would look better than any rule is.
    shorter_is_better = fmean(shorter) >= 0.5
    ahead = spread([a - (s if shorter_is_better else 1 - s) for a, s in zip(accuracy, shorter, strict=True)])
    if ahead.low > 0 or ahead.mean >= CLEARLY_AHEAD:
        return None
    rule = "shorter" if shorter_is_better else "longer"
    text = (
        f"it ranks its training pairs no better than preferring the {rule} answer does: {100 * ahead.mean:+.1f} points, "
        f"{100 * ahead.low:+.1f} to {100 * ahead.high:+.1f}"
    )
    return Finding(ahead.mean, text)


def not_above_length(readings: Readings) -> Finding | None:
    """Whether its held-out accuracy is not shown to exceed that of a length rule."""
    for rule in ("shorter", "longer"):
        for each in readings.against(f"accuracy-vs-{rule}", f"{rule}-wins"):
            if each.low <= 0:
                text = (
                    f"on `{each.suite}` it is not shown to do better than preferring the {rule} answer: {100 * each.value:+.1f} "
                    f"points, {100 * each.low:+.1f} to {100 * each.high:+.1f}"
                )
                return Finding(each.value, text)
    return None


def margins_alike(readings: Readings) -> Finding | None:
    """Whether all pairs get about the same margin."""
    widest = max(readings.last("margin_std", WINDOW))
    if widest >= ALIKE:
        return None
    return Finding(widest, f"it gives all pairs the same margin: their deviation is {widest:.2g} at most")


def extreme_rewards(readings: Readings) -> Finding | None:
    """Whether rewards are far outside the range in which a margin means anything."""
    largest = max(abs(median(readings.last(name, 5))) for name in ("min_reward", "max_reward"))
    if largest <= EXTREME:
        return None
    return Finding(largest, f"its rewards reach {largest:.3g}")


def loss_stuck(readings: Readings) -> Finding | None:
    """Whether the loss stays at ln 2, that of a model which cannot tell the answers apart."""
    losses = readings.last("loss", WINDOW)
    if max(abs(loss - math.log(2)) for loss in losses) >= STUCK:
        return None
    return Finding(fmean(losses), f"its loss stays at {fmean(losses):.4f}, that of a coin (ln 2 = 0.6931)")


def lost_head(readings: Readings) -> Finding | None:
    """Whether it scores differently once it has been saved and opened again."""
    (difference,) = readings.last("reload_difference", 1)
    if difference <= RELOAD:
        return None
    return Finding(difference, f"saved and opened again, it scores the same answers differently, by up to {difference:.3g}")


RULES = (
    Rule(
        aligner="reward",
        name="accuracy",
        look=near_chance,
        scalars=("accuracy",),
        needs=WINDOW,
        after=0.5,
        threshold=f"the 95 % interval of accuracy, mean of the last {WINDOW} logged values, reaches {NEAR_CHANCE:.0%}",
        advice=CHANCE_ADVICE,
        source="a coin is right half of the time; 5 points are what Student's interval of ten windows of 80 pairs spans",
    ),
    Rule(
        aligner="reward",
        name="accuracy",
        look=not_above_chance,
        metrics=("accuracy",),
        threshold="the interval of the held-out accuracy lies above 50 %",
        advice=CHANCE_ADVICE,
        source="the rule by which this project calls a judge unproven",
    ),
    Rule(
        aligner="reward",
        name="length-baseline",
        look=at_length_baseline,
        scalars=("accuracy", "shorter_wins"),
        needs=WINDOW,
        after=0.5,
        threshold=(
            f"accuracy minus the better length rule's, mean of the last {WINDOW} logged values, has an interval above 0 or is "
            f"{100 * CLEARLY_AHEAD:.0f} points at least"
        ),
        advice=LENGTH_ADVICE,
        source="Singhal et al. 2023, arXiv 2310.03716: length alone explains most of what many reward models learn",
    ),
    Rule(
        aligner="reward",
        name="length-baseline",
        look=not_above_length,
        metrics=("accuracy-vs-shorter", "accuracy-vs-longer"),
        threshold="the intervals of accuracy-vs-shorter and accuracy-vs-longer lie above 0",
        advice=LENGTH_ADVICE,
        source="the rule by which this project calls a judge unproven",
    ),
    Rule(
        aligner="reward",
        name="margins-alike",
        look=margins_alike,
        scalars=("margin_std",),
        needs=WINDOW,
        after=0.5,
        threshold=f"one of the last {WINDOW} values of margin_std is {ALIKE} at least",
        advice=(
            "Nothing tells its pairs apart: look whether its head is trained, whether chosen and rejected answers differ within "
            "max_length, and raise the learning rate."
        ),
        source=f"sigmoid({ALIKE}) = 0.512: pairs that differ by less are all a coin to it",
    ),
    Rule(
        aligner="reward",
        name="extreme-rewards",
        look=extreme_rewards,
        scalars=("min_reward", "max_reward"),
        needs=5,
        threshold=f"the medians of the last 5 min_reward and max_reward lie within ±{EXTREME:g}",
        advice=(
            "A few answers will dominate whatever is trained against it: lower the learning rate, train for fewer epochs, or set "
            "center_rewards_coefficient (0.01)."
        ),
        source=(
            f"a margin of {EXTREME:g} claims an error in 5·10⁸ pairs, where people agree on about 3 of 4; centring: Eisenstein "
            "et al. 2023, arXiv 2312.09244"
        ),
    ),
    Rule(
        aligner="reward",
        name="loss-stuck",
        look=loss_stuck,
        scalars=("loss",),
        needs=WINDOW,
        after=0.5,
        threshold=f"one of the last {WINDOW} losses is {STUCK} at least away from ln 2",
        advice="It learns nothing: raise the learning rate, and look whether its weights are trained at all.",
        source="-log sigmoid(0) = ln 2, Bradley-Terry at margin 0",
    ),
    Rule(
        aligner="reward",
        name="reload",
        look=lost_head,
        scalars=("reload_difference",),
        threshold=f"reload_difference is {RELOAD:g} at most",
        advice="Part of it is not saved (a head beside a LoRA adapter, often): do not use the saved model, and report it.",
        source="the same weights give the same scores; what is allowed is rounding",
    ),
)
