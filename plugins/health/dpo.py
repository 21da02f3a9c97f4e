"""What may be wrong with direct preference optimisation."""

from __future__ import annotations

import math
from statistics import fmean

from harness import Finding, Readings, Rule, spread

WINDOW = 10
"""Logged values that a rate is judged by."""

STUCK_LOSS = 0.005
STUCK_REWARD = 0.01
LOW_ACCURACY = 0.6
FALLEN = 0.1
KL = 5.0
DRIFT = 0.25


def stuck(readings: Readings) -> Finding | None:
    """Whether the loss stays at ln 2 while both rewards are zero: the policy is its reference."""
    losses = readings.last("loss", 5)
    rewards = [*readings.last("rewards/chosen", 5), *readings.last("rewards/rejected", 5)]
    if max(abs(loss - math.log(2)) for loss in losses) >= STUCK_LOSS or max(map(abs, rewards)) >= STUCK_REWARD:
        return None
    text = f"its loss stays at {fmean(losses):.4f} (ln 2 = 0.6931) with rewards of zero: the policy still is its reference"
    return Finding(fmean(losses), text)


def low_accuracy(readings: Readings) -> Finding | None:
    """Whether even the upper end of the interval of recent training accuracies is low."""
    recent = spread(readings.last("rewards/accuracies", WINDOW))
    if recent.high >= LOW_ACCURACY:
        return None
    text = f"it prefers the chosen answer in {recent.mean:.1%} of its training pairs, {recent.low:.1%} to {recent.high:.1%}"
    return Finding(recent.mean, text)


def both_fall(readings: Readings) -> tuple[float, float, bool] | None:
    """The last thirds' mean rewards where both fell, and whether the margin between them grew."""
    chosen, rejected = readings.trend("rewards/chosen"), readings.trend("rewards/rejected")
    margin = readings.trend("rewards/margins")
    if chosen is None or rejected is None or margin is None:
        return None
    if chosen.high >= 0 or rejected.high >= 0 or max(chosen.last, rejected.last) >= -FALLEN:
        return None
    return chosen.last, rejected.last, margin.low > 0


def fall_with_margin(readings: Readings) -> Finding | None:
    """Whether both rewards fall while the margin grows."""
    found = both_fall(readings)
    if found is None or not found[2]:
        return None
    return Finding(found[0], f"the rewards of chosen and rejected answers both fell, to {found[0]:.3g} and {found[1]:.3g}")


def fall_without_margin(readings: Readings) -> Finding | None:
    """Whether both rewards fall and the margin does not grow."""
    found = both_fall(readings)
    if found is None or found[2]:
        return None
    text = (
        f"the rewards of chosen and rejected answers both fell, to {found[0]:.3g} and {found[1]:.3g}, and the margin between "
        "them did not grow"
    )
    return Finding(found[0], text)


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
        scalars=("loss", "rewards/chosen", "rewards/rejected"),
        needs=5,
        after=0.5,
        threshold=(
            f"one of the last 5 losses is {STUCK_LOSS} at least away from ln 2, or one of the rewards {STUCK_REWARD} from zero"
        ),
        advice="Nothing trains: raise the learning rate, train for longer, and look whether policy and reference share weights.",
        source="Rafailov et al. 2023, arXiv 2305.18290, equation 7 at policy = reference",
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
        look=fall_with_margin,
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
        look=fall_without_margin,
        scalars=("rewards/chosen", "rewards/rejected", "rewards/margins"),
        needs=9,
        after=0.5,
        threshold=f"while both rewards fall below {-FALLEN} (first third to last), the margin grows",
        advice="It leaves its data without learning from them: lower the learning rate, or raise beta.",
        source="Pal et al. 2024, arXiv 2402.13228; growing means: Student's 95 % interval of last minus first third",
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
