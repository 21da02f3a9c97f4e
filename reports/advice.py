"""What the numbers of each stage mean, and what to try next: short rules for each aligner, from observed values.

What is wrong with a stage its health verdicts say; nothing here says it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.trends import trend

from .evidence import direction, primary
from .text import interval, label, number
from .trends import find, reward_curve

if TYPE_CHECKING:
    from .facts import Facts

_LOSS = ("loss", "train[/_]loss")
_VALID_LOSS = ("(valid|eval|test)[/_]loss",)


@dataclass(frozen=True)
class Advice:
    """A stage's sentences: what was seen, and what to do about it."""

    stage: str
    aligner: str
    sentences: tuple[str, ...]


def advice(facts: Facts) -> tuple[Advice, ...]:
    """Sentences for every stage that has something to say."""
    found = []
    for stage in facts.own_stages:
        aligner = facts.aligner(stage)
        sentences = [*_RULES.get(aligner, _loss)(facts, stage), *_answers(facts, stage)]
        if sentences:
            found.append(Advice(stage, aligner, tuple(sentences)))
    return tuple(found)


def _sft(facts: Facts, stage: str) -> list[str]:
    sentences = _loss(facts, stage)
    valid = find(facts.series(stage), *_VALID_LOSS)
    if valid and min(value for _, value in valid) < 0.99 * valid[-1][1]:
        sentences.append(
            "The validation loss ended above its lowest point: the model starts to memorise. Train for fewer epochs."
        )
    return sentences


def _reward(facts: Facts, stage: str) -> list[str]:
    sentences = _loss(facts, stage)
    accuracy, ceiling = facts.level_of("accuracy", stage), facts.level_of("accuracy-ceiling", stage)
    if accuracy and ceiling and accuracy.low > 0.5 and accuracy.high >= ceiling.low:
        sentences.append(
            f"Its accuracy, {interval(accuracy, 0.5)}, reaches up to what the noise in the labels allows "
            f"({interval(ceiling)}). More training cannot add much; only cleaner preferences can."
        )
    error = facts.level_of("ece", stage)
    if error and error.low > 0.1:
        sentences.append(
            f"Its confidence is off by {interval(error)} on average. The order of its scores still counts, their size "
            "does not: train for fewer epochs, or normalise the reward in PPO."
        )
    return sentences


def _dpo(facts: Facts, stage: str) -> list[str]:
    sentences = []
    divergence, rate = facts.level_of("kl", stage), primary(facts, stage)
    unmoved = divergence is not None and divergence.value < 0.5 and not facts.warned(stage, "stuck")
    if divergence and unmoved and (rate is None or direction(rate, 0.5) != "better"):
        sentences.append(
            f"It hardly left its reference (KL {interval(divergence)} nats per answer). Raise the learning rate, train "
            "for longer, or lower `beta`."
        )
    accuracies = find(facts.series(stage), "(rewards/)?accurac(y|ies)", "train[/_]accurac(y|ies)")
    if accuracies and accuracies[-1][1] > 0.98:
        sentences.append(
            "It ranks nearly all training pairs correctly, so little is left to learn from them: more epochs would only "
            "memorise."
        )
    if rate and direction(rate, 0.5) == "worse":
        started = (facts.stages[stage].get("slots") or {}).get("init") == rate.baseline
        other = "the model that it started from" if started else label(str(rate.baseline))
        sentences.append(f"It loses to {other}. Lower the learning rate first; then check the pairs for noise.")
    return sentences


def _ppo(facts: Facts, stage: str) -> list[str]:
    sentences = []
    rate = primary(facts, stage)
    curve = reward_curve(facts.series(stage))
    rewards = trend(curve) if curve else None
    if rewards and rewards.low > 0:
        gain = f"Its reward rose by {number(rewards.change)} over training"
        if rate and direction(rate, 0.5) == "better":
            sentences.append(f"{gain}, and the judge sees the gain too.")
        elif rate and not facts.warned(stage, "hacking"):
            sentences.append(
                f"{gain}, but no gain is shown by a judge that it was not trained against: the mark of over-optimisation "
                "if its KL is large, of too few prompts if its KL is small. Read the answers side by side."
            )
    elif rewards:
        sentences.append(
            "Its reward did not clearly rise. Train for more steps or raise the learning rate; if the KL term outweighs "
            "the reward, lower `kl_coef`."
        )
    return sentences


def _loss(facts: Facts, stage: str) -> list[str]:
    curve = find(facts.series(stage), *_LOSS)
    found = trend(curve) if curve else None
    if found is None or facts.warned(stage, "loss-stuck", "stuck"):
        return []
    values = f"{number(found.first)} in the first third of training, {number(found.last)} in the last"
    if found.high < 0:
        return [f"The loss fell: {values}."]
    return [
        f"The loss did not clearly fall: {values}. Train for longer or raise the learning rate, unless it began near its "
        "floor."
    ]


def _answers(facts: Facts, stage: str) -> list[str]:
    """What holds for any policy: longer answers, and degenerate ones."""
    sentences = []
    for each in () if facts.warned(stage, "length-drift") else facts.select("length", stage):
        if each.baseline == facts.baseline and each.low > 0 and facts.baseline:
            sentences.append(
                f"Its answers are longer than the baseline's by {interval(each)} characters on `{each.suite}`. Judges "
                "tend to like length: read some of the longer answers before trusting the win rate."
            )
            break
    for metric, text in (("repetition", "repeats itself"), ("empty", "gives empty answers")):
        found = (each for each in facts.select(metric, stage) if each.baseline and each.baseline == facts.baseline)
        if worse := next((each for each in found if each.low > 0), None):
            more = f"{interval(worse)} on `{worse.suite}`"
            sentences.append(f"It {text} more than the baseline ({more}), a sign of training too hard.")
    return sentences


_RULES: dict[str, Callable[[Facts, str], list[str]]] = {"sft": _sft, "reward": _reward, "dpo": _dpo, "ppo": _ppo}
