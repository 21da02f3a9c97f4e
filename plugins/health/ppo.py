"""What may be wrong with proximal policy optimisation."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean, median

from harness import Finding, Readings, Rule, residual_deviation, spread, turns

SHORT, WINDOW = 5, 10
"""Logged values that a mean, and that a noisy one, is judged by."""

KL = 10.0
NEGATIVE_KL = -0.05
EXPLODING = 5.0
POLICY_LOSS = 5.0
VALUE_LOSS = 10.0
SKIPPED = 3
LESS_DIVERSE = 0.1
LESS_FLUENT = 0.5
REPEATED = 0.25
ENTROPY_LEFT = 0.2
SWING = 1.0
TURNS = 4

HACKING = (
    "This is reward hacking: read its answers beside the baseline's. Raise kl_coef, train for fewer steps, or mend the reward "
    "model where it is fooled."
)
COLLAPSE = "This is mode collapse: lower the learning rate, raise kl_coef or entropy_coef, or stop earlier."
UNSTABLE = "Lower the learning rate, raise rollout_batch_size, or take fewer num_ppo_epochs."
CRITIC = (
    "The critic does not know what the policy earns, so advantages are noise: lower critic_learning_rate if value_loss rises, "
    "raise it if value_loss stays, and look at the scale of the rewards."
)
OVEROPTIMISATION = "Gao et al. 2022, arXiv 2210.10760: what is optimised rises while what is meant falls"


def gain(readings: Readings) -> float:
    """By how much the reward model's score is shown to have risen from the first third of training to the last; else 0."""
    rise = readings.trend("score")
    return rise.change if rise is not None and rise.low > 0 else 0.0


def score_up_judge_down(readings: Readings) -> Finding | None:
    """Whether the score rose while a judge that the policy did not train against sees a loss."""
    if not (rise := gain(readings)):
        return None
    for each in readings.against("reward"):
        if each.high < 0:
            text = (
                f"its score rose by {rise:.3g} while `{each.judge}`, on `{each.suite}`, sees a loss of {-each.value:.3g} against "
                f"`{each.baseline}` ({each.low:.3g} to {each.high:.3g})"
            )
            return Finding(each.value, text)
    return None


def score_up_wins_down(readings: Readings) -> Finding | None:
    """Whether the score rose while the policy loses by a judge that it did not train against."""
    if not (rise := gain(readings)):
        return None
    for each in readings.against("win-rate"):
        if each.high < 0.5:
            text = (
                f"its score rose by {rise:.3g} while it wins {each.value:.1%} against `{each.baseline}` on `{each.suite}` by "
                f"`{each.judge}` ({each.low:.1%} to {each.high:.1%})"
            )
            return Finding(each.value, text)
    return None


def score_up_diversity_down(readings: Readings) -> Finding | None:
    """Whether the score rose while the rollouts' answers became repetitive in themselves."""
    rise, diversity = gain(readings), readings.trend("distinct_2")
    if not rise or diversity is None or diversity.high >= 0 or diversity.change > -LESS_DIVERSE:
        return None
    text = (
        f"its score rose by {rise:.3g} while the share of distinct bigrams in an answer fell from {diversity.first:.3g} to "
        f"{diversity.last:.3g}"
    )
    return Finding(diversity.change, text)


def score_up_evaluated_diversity_down(readings: Readings) -> Finding | None:
    """Whether the score rose while the evaluated answers are more repetitive in themselves than the baseline's."""
    if not (rise := gain(readings)):
        return None
    for each in readings.against("distinct-2"):
        if each.high < -LESS_DIVERSE:
            text = (
                f"its score rose by {rise:.3g} while the share of distinct bigrams in an answer on `{each.suite}` is "
                f"{-each.value:.3g} lower than that of `{each.baseline}` ({each.low:.3g} to {each.high:.3g})"
            )
            return Finding(each.value, text)
    return None


def score_up_fluency_down(readings: Readings) -> Finding | None:
    """Whether the score rose while the answers became unlikely under the reference."""
    rise, fluency = gain(readings), readings.trend("ref_logprob")
    if not rise or fluency is None or fluency.high >= 0 or fluency.change > -LESS_FLUENT:
        return None
    text = (
        f"its score rose by {rise:.3g} while its answers' log-probability under the reference fell from {fluency.first:.3g} to "
        f"{fluency.last:.3g} nats per token"
    )
    return Finding(fluency.change, text)


def repeated_answers(readings: Readings) -> Finding | None:
    """Whether more and more prompts get one and the same answer."""
    before, now = fmean(readings.first("repeated_answers", SHORT)), fmean(readings.last("repeated_answers", SHORT))
    if now - before <= REPEATED:
        return None
    return Finding(now - before, f"{now:.0%} of a rollout's answers equal another one's, {before:.0%} when it began")


def evaluated_repeated_answers(readings: Readings) -> Finding | None:
    """Whether more prompts share their answer with another prompt than the baseline's do."""
    for each in readings.against("distinct-answers"):
        if each.high < -REPEATED:
            text = (
                f"{-each.value:.0%} more of its answers on `{each.suite}` equal another one's than of `{each.baseline}`'s "
                f"({-each.high:.0%} to {-each.low:.0%})"
            )
            return Finding(-each.value, text)
    return None


def entropy_collapse(readings: Readings) -> Finding | None:
    """Whether little is left of the entropy that the policy began with."""
    before, now = fmean(readings.first("entropy", SHORT)), fmean(readings.last("entropy", SHORT))
    if before <= 0 or now / before >= ENTROPY_LEFT:
        return None
    return Finding(now / before, f"its entropy fell from {before:.3g} to {now:.3g} nats per token")


def oscillating(name: str) -> Callable[[Readings], Finding | None]:
    """Whether a scalar swings up and down."""

    def look(readings: Readings) -> Finding | None:
        values = readings.last(name, WINDOW)
        swing = residual_deviation(values)
        if swing <= SWING or turns(values) < TURNS:
            return None
        return Finding(swing, f"its {name} swings up and down, with a deviation of {swing:.3g} around its trend")

    return look


def high_kl(readings: Readings) -> Finding | None:
    """Whether the rollouts are far from the reference."""
    now = fmean(readings.last("kl", 3))
    return Finding(now, f"its KL is {now:.4g} nats per answer") if now > KL else None


def evaluated_high_kl(readings: Readings) -> Finding | None:
    """Whether the evaluated answers are shown to be far from the reference."""
    for each in readings.levels("kl"):
        if each.low > KL:
            text = f"its KL on `{each.suite}` is {each.value:.3g} nats per answer, {each.low:.3g} to {each.high:.3g}"
            return Finding(each.value, text)
    return None


def negative_kl(readings: Readings) -> Finding | None:
    """Whether the estimate of a quantity that cannot be negative is."""
    recent = spread(readings.last("kl", WINDOW))
    if recent.high >= NEGATIVE_KL:
        return None
    text = f"its KL is negative: {recent.mean:.3g} nats per answer, {recent.low:.3g} to {recent.high:.3g}"
    return Finding(recent.mean, text)


def exploding_kl(readings: Readings) -> Finding | None:
    """Whether the KL leaps."""
    *before, now = readings.last("kl", SHORT + 1)
    if now <= max(EXPLODING, EXPLODING * median(before)):
        return None
    return Finding(now, f"its KL leapt to {now:.3g} nats per answer, from {median(before):.3g}")


def large_policy_loss(readings: Readings) -> Finding | None:
    """Whether the policy's loss is out of all proportion to whitened advantages."""
    now = fmean(readings.last("policy_loss", 3))
    return Finding(now, f"its policy loss is {now:.3g}") if abs(now) > POLICY_LOSS else None


def large_value_loss(readings: Readings) -> Finding | None:
    """Whether the critic is still far off late in training."""
    now = fmean(readings.last("value_loss", SHORT))
    return Finding(now, f"its value loss is {now:.3g}") if now > VALUE_LOSS else None


def useless_critic(readings: Readings) -> Finding | None:
    """Whether the critic is worse than none."""
    recent = spread(readings.last("explained_variance", SHORT))
    if recent.high >= 0:
        return None
    text = f"its critic explains less than nothing of the returns: {recent.mean:.3g}, {recent.low:.3g} to {recent.high:.3g}"
    return Finding(recent.mean, text)


def many_skips(readings: Readings) -> Finding | None:
    """Whether minibatches are skipped again and again."""
    count = sum(value > 0 for value in readings.last("skipped", WINDOW))
    if count < SKIPPED:
        return None
    return Finding(
        count, f"minibatches were skipped in {count} of the last {WINDOW} logged iterations: their ratio was above 10"
    )


RULES = (
    Rule(
        aligner="ppo",
        name="hacking",
        look=score_up_judge_down,
        scalars=("score",),
        needs=6,
        metrics=("reward",),
        threshold="while score rises, the interval of an independent judge's reward against the baseline reaches up to 0",
        advice=HACKING,
        source=OVEROPTIMISATION,
    ),
    Rule(
        aligner="ppo",
        name="hacking",
        look=score_up_wins_down,
        scalars=("score",),
        needs=6,
        metrics=("win-rate",),
        threshold="while score rises, the interval of an independent judge's win rate reaches up to 50 %",
        advice=HACKING,
        source=OVEROPTIMISATION,
    ),
    Rule(
        aligner="ppo",
        name="diversity",
        look=score_up_diversity_down,
        scalars=("score", "distinct_2"),
        needs=9,
        after=0.5,
        threshold=f"while score rises, distinct_2 falls by less than {LESS_DIVERSE} (first third to last)",
        advice=HACKING,
        source="Kirk et al. 2023, arXiv 2310.06452: RLHF lowers diversity; a tenth of an answer's bigrams shows to the eye",
    ),
    Rule(
        aligner="ppo",
        name="diversity",
        look=score_up_evaluated_diversity_down,
        scalars=("score",),
        needs=6,
        metrics=("distinct-2",),
        threshold=f"while score rises, the interval of distinct-2 against the baseline reaches up to {-LESS_DIVERSE}",
        advice=HACKING,
        source="as above",
    ),
    Rule(
        aligner="ppo",
        name="fluency",
        look=score_up_fluency_down,
        scalars=("score", "ref_logprob"),
        needs=9,
        after=0.5,
        threshold=f"while score rises, ref_logprob falls by less than {LESS_FLUENT} nats per token (first third to last)",
        advice=HACKING,
        source=f"e^{LESS_FLUENT} = 1.65 times the perplexity under the reference, which is the measure of fluency here",
    ),
    Rule(
        aligner="ppo",
        name="repeated-answers",
        look=repeated_answers,
        scalars=("repeated_answers",),
        needs=WINDOW,
        threshold=f"repeated_answers, mean of the last {SHORT} logged values, is {REPEATED} at most above the first {SHORT}",
        advice=COLLAPSE,
        source="held against the start, because short right answers may coincide; the bound is a rule of thumb",
    ),
    Rule(
        aligner="ppo",
        name="repeated-answers",
        look=evaluated_repeated_answers,
        metrics=("distinct-answers",),
        threshold=f"the interval of distinct-answers against the baseline reaches up to {-REPEATED}",
        advice=COLLAPSE,
        source="as above",
    ),
    Rule(
        aligner="ppo",
        name="entropy",
        look=entropy_collapse,
        scalars=("entropy",),
        needs=WINDOW,
        threshold=f"entropy, mean of the last {SHORT} logged values, is {ENTROPY_LEFT:.0%} at least of the first {SHORT}",
        advice=COLLAPSE,
        source="Cui et al. 2025, arXiv 2505.22617: what is learned is paid for in entropy, and ends with it",
    ),
    Rule(
        aligner="ppo",
        name="oscillating",
        look=oscillating("reward"),
        scalars=("reward",),
        needs=WINDOW,
        threshold=(
            f"the last {WINDOW} values of reward deviate by {SWING:g} at most from their straight line, or change direction "
            f"less than {TURNS} times"
        ),
        advice=UNSTABLE,
        source="reward is in deviations of the reference's scores; the mean of 16 answers alone scatters by a quarter of one",
    ),
    Rule(
        aligner="ppo",
        name="oscillating",
        look=oscillating("policy_loss"),
        scalars=("policy_loss",),
        needs=WINDOW,
        threshold=(
            f"the last {WINDOW} values of policy_loss deviate by {SWING:g} at most from their straight line, or change direction "
            f"less than {TURNS} times"
        ),
        advice=UNSTABLE,
        source="advantages are whitened, so a loss of 1 is a deviation of them",
    ),
    Rule(
        aligner="ppo",
        name="kl",
        look=high_kl,
        scalars=("kl",),
        needs=3,
        threshold=f"kl, mean of the last 3 logged values, is {KL:g} nats per answer at most",
        advice="Raise kl_coef (or set target_kl), lower the learning rate, or stop earlier.",
        source="a rule of thumb for answers of some ten to hundred tokens; Gao et al. 2022, arXiv 2210.10760",
    ),
    Rule(
        aligner="ppo",
        name="kl",
        look=evaluated_high_kl,
        metrics=("kl",),
        threshold=f"the interval of kl reaches down to {KL:g} nats per answer",
        advice="Raise kl_coef (or set target_kl), lower the learning rate, or stop earlier.",
        source="as above",
    ),
    Rule(
        aligner="ppo",
        name="negative-kl",
        look=negative_kl,
        scalars=("kl",),
        needs=WINDOW,
        threshold=f"the 95 % interval of kl, mean of the last {WINDOW} logged values, reaches {NEGATIVE_KL} nats per answer",
        advice=(
            "The answers were not sampled from the policy that is measured: look for stale weights, another temperature, top-k or "
            "top-p, or padding that changes log-probabilities."
        ),
        source="a KL divergence is not negative, and its k1 estimate is without bias (Schulman, joschu.net/blog/kl-approx.html)",
    ),
    Rule(
        aligner="ppo",
        name="exploding-kl",
        look=exploding_kl,
        scalars=("kl",),
        needs=SHORT + 1,
        threshold=(
            f"kl is {EXPLODING:g} nats per answer at most, or {EXPLODING:g} times the median of the {SHORT} logged values before it"
        ),
        advice="Lower the learning rate, raise kl_coef, or set early_stop_kl.",
        source="half of what is too much, in one leap",
    ),
    Rule(
        aligner="ppo",
        name="policy-loss",
        look=large_policy_loss,
        scalars=("policy_loss",),
        needs=3,
        threshold=f"policy_loss, mean of the last 3 logged values, lies within ±{POLICY_LOSS:g}",
        advice=UNSTABLE,
        source="a rule of thumb; whitened advantages and a clipped ratio keep it below 1",
    ),
    Rule(
        aligner="ppo",
        name="value-loss",
        look=large_value_loss,
        scalars=("value_loss",),
        needs=SHORT,
        after=0.75,
        threshold=f"value_loss, mean of the last {SHORT} logged values, is {VALUE_LOSS:g} at most",
        advice=CRITIC,
        source="a rule of thumb, in squared deviations of the reference's scores",
    ),
    Rule(
        aligner="ppo",
        name="explained-variance",
        look=useless_critic,
        scalars=("explained_variance",),
        needs=SHORT,
        after=0.75,
        threshold=f"the 95 % interval of explained_variance, mean of the last {SHORT} logged values, reaches 0",
        advice=CRITIC,
        source="below 0 a constant would predict the returns better (OpenAI Baselines, explained_variance)",
    ),
    Rule(
        aligner="ppo",
        name="skips",
        look=many_skips,
        scalars=("skipped",),
        needs=SKIPPED,
        threshold=f"less than {SKIPPED} of the last {WINDOW} logged iterations skipped a minibatch",
        advice="Lower the learning rate, take fewer num_ppo_epochs, or set early_stop_kl.",
        source="Huang et al. 2024, arXiv 2403.17031: one skip may be an accident, several are not",
    ),
)
