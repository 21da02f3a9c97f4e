"""What may be wrong with direct preference optimisation."""

from __future__ import annotations

from harness import Finding, Readings, Rule, Trend, spread

WINDOW = 10
"""Logged values that a rate is judged by."""

STUCK = 0.01
LOW_ACCURACY = 0.6
FALLEN = 0.1
GROWTH = 0.1
"""The part of the chosen answer's fall that the margin has to grow by."""

KL = 5.0
DRIFT = 0.25

COLLAPSED = "It leaves its data without learning from them: lower the learning rate, or raise beta."
COLLAPSE_SOURCE = "Pal et al. 2024, arXiv 2402.13228; the part is a rule of thumb"


def stuck(readings: Readings) -> Finding | None:
    """Whether both rewards and the margin between them stay at zero, whatever the loss: the policy is its reference."""
    margins = readings.last("rewards/margins", 5)
    rewards = [*readings.last("rewards/chosen", 5), *readings.last("rewards/rejected", 5)]
    largest = max(map(abs, [*rewards, *margins]))
    if largest >= STUCK:
        return None
    text = f"its rewards and the margins between them stay within {largest:.2g} of zero: the policy still is its reference"
    return Finding(largest, text)


def low_accuracy(readings: Readings) -> Finding | None:
    """Whether even the upper end of the interval of recent training accuracies is low."""
    recent = spread(readings.last("rewards/accuracies", WINDOW))
    if recent.high >= LOW_ACCURACY:
        return None
    text = f"it prefers the chosen answer in {recent.mean:.1%} of its training pairs, {recent.low:.1%} to {recent.high:.1%}"
    return Finding(recent.mean, text)


def both_fall(readings: Readings) -> tuple[float, Trend, str] | None:
    """How far the chosen answer's reward fell where both fell, the margin between them, and what to say of all three.

    A reward falls from where it began, or from 0 if that is less: with a reference it begins at 0, and without one it is a
    mean log-probability, which is never above.
    """
    chosen, rejected = readings.trend("rewards/chosen"), readings.trend("rewards/rejected")
    margin = readings.trend("rewards/margins")
    if chosen is None or rejected is None or margin is None:
        return None
    began = [min(0.0, *readings.first(name, 1)) for name in ("rewards/chosen", "rewards/rejected")]
    falls = chosen.last - began[0], rejected.last - began[1]
    if chosen.high >= 0 or rejected.high >= 0 or max(falls) >= -FALLEN:
        return None
    text = (
        f"the rewards of chosen and rejected answers both fell, to {chosen.last:.3g} and {rejected.last:.3g}, and the margin "
        f"between them changed by {margin.change:+.3g} ({margin.low:+.3g} to {margin.high:+.3g})"
    )
    return falls[0], margin, text


def fall_and_growth_excluded(readings: Readings) -> Finding | None:
    """Whether both rewards fall, and even the upper end of the margin's change is a small part of the fall."""
    if (found := both_fall(readings)) is None:
        return None
    fall, margin, text = found
    return Finding(fall, text) if margin.low <= 0 and margin.high < GROWTH * -fall else None


def fall_without_growth(readings: Readings) -> Finding | None:
    """Whether both rewards fall, and the margin's change is a small part of the fall and not shown to be growth."""
    if (found := both_fall(readings)) is None:
        return None
    fall, margin, text = found
    return Finding(fall, text) if margin.low <= 0 and margin.change < GROWTH * -fall else None


def fall_with_growth(readings: Readings) -> Finding | None:
    """Whether both rewards fall while the margin grows: all that `fall_without_growth` leaves."""
    found = both_fall(readings)
    if found is None or fall_without_growth(readings):
        return None
    return Finding(found[0], found[2])


def far_from_reference(readings: Readings) -> Finding | None:
    """Whether it is shown to be far from its reference."""
    for each in readings.levels("kl"):
        if each.low > KL:
            text = f"its KL on `{each.suite}` is {each.value:.3g} nats per answer, {each.low:.3g} to {each.high:.3g}"
            return Finding(each.value, text)
    return None


def length_drift(readings: Readings) -> Finding | None:
    """Whether its answers are shown to be longer or shorter than the baseline's by a large part."""
    levels = {each.suite: each.value for each in readings.levels("length")}
    for each in readings.against("length"):
        before = levels.get(each.suite, 0.0) - each.value
        if before <= 0:
            continue
        shares = [end / before for end in (each.value, each.low, each.high)]
        if shares[1] > DRIFT or shares[2] < -DRIFT:
            text = (
                f"its answers on `{each.suite}` are {abs(shares[0]):.0%} {'longer' if shares[0] > 0 else 'shorter'} than those of "
                f"`{each.baseline}`, {shares[1]:+.0%} to {shares[2]:+.0%}"
            )
            return Finding(shares[0], text)
    return None


RULES = (
    Rule(
        aligner="dpo",
        name="stuck",
        look=stuck,
        scalars=("rewards/chosen", "rewards/rejected", "rewards/margins"),
        needs=5,
        after=0.5,
        threshold=f"one of the last 5 rewards, or of the margins between them, is {STUCK} at least away from zero",
        advice="Nothing trains: raise the learning rate, train for longer, and look whether policy and reference share weights.",
        source=(
            "Rafailov et al. 2023, arXiv 2305.18290: rewards are 0 at policy = reference; a margin of 0.01 moves the sigmoid "
            "loss by 0.005"
        ),
    ),
    Rule(
        aligner="dpo",
        name="accuracy",
        look=low_accuracy,
        scalars=("rewards/accuracies",),
        needs=WINDOW,
        after=0.5,
        threshold=(
            f"the 95 % interval of rewards/accuracies, mean of the last {WINDOW} logged values, reaches {LOW_ACCURACY:.0%}"
        ),
        advice=(
            "It hardly learns what was preferred: raise the learning rate, train for longer, and check that chosen and rejected "
            "are not swapped."
        ),
        source="a rule of thumb; 50 % is a coin, and below it the loss has the wrong sign",
    ),
    Rule(
        aligner="dpo",
        name="both-rewards-fall",
        look=fall_with_growth,
        scalars=("rewards/chosen", "rewards/rejected", "rewards/margins"),
        needs=9,
        after=1.0,
        threshold="no bound: this is normal while the margin grows",
        advice=(
            "DPO rewards the gap alone, and may make both answers less likely. Look at the answers; if they degrade, add an SFT "
            "term to the loss, or raise beta."
        ),
        source="Razin et al. 2024, arXiv 2410.08847; Pal et al. 2024, arXiv 2402.13228",
        level="note",
    ),
    Rule(
        aligner="dpo",
        name="rewards-collapse",
        look=fall_and_growth_excluded,
        scalars=("rewards/chosen", "rewards/rejected", "rewards/margins"),
        needs=9,
        after=0.5,
        threshold=(
            f"while both rewards fall by {FALLEN} (first logged value, 0 at most, to last third), the interval of the margin's "
            f"change reaches {GROWTH:.0%} of the chosen answer's fall, or lies above 0"
        ),
        advice=COLLAPSED,
        source=COLLAPSE_SOURCE,
    ),
    Rule(
        aligner="dpo",
        name="rewards-collapse",
        look=fall_without_growth,
        scalars=("rewards/chosen", "rewards/rejected", "rewards/margins"),
        needs=9,
        after=1.0,
        threshold=(
            f"where both rewards fell by {FALLEN}, the margin's change is {GROWTH:.0%} of the chosen answer's fall at least, or "
            "its interval lies above 0"
        ),
        advice=COLLAPSED,
        source=COLLAPSE_SOURCE,
    ),
    Rule(
        aligner="dpo",
        name="kl",
        look=far_from_reference,
        metrics=("kl",),
        threshold=f"the interval of kl reaches down to {KL:g} nats per answer",
        advice="Raise `beta` (a larger beta keeps DPO closer to its reference) or lower the learning rate.",
        source="a rule of thumb; Gao et al. 2022, arXiv 2210.10760: true quality peaks and falls as KL grows",
    ),
    Rule(
        aligner="dpo",
        name="length-drift",
        look=length_drift,
        metrics=("length",),
        threshold=f"the interval of the change of length reaches within ±{DRIFT:.0%} of the baseline's",
        advice=(
            "Judges like length, so do not trust the win rate alone: compare length-controlled-win-rate, balance the lengths of "
            "chosen and rejected answers, or raise beta."
        ),
        source="Park et al. 2024, arXiv 2403.19159: DPO exploits length",
    ),
)
