"""Each built-in health rule on series made by hand: silent just inside its threshold, a verdict just outside.

The bounds are those of the issue and of docs/health.md, written down here again: whoever moves one has to move it twice.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from harness.health import Monitor, Rule
from harness.plugins import load_plugins
from harness.records import Estimate, HealthVerdict

RULES = load_plugins().registry().rules
Series = Mapping[str, Sequence[float]]
LN2 = math.log(2)


def verdicts(aligner: str, series: Series, found: Sequence[Estimate] = ()) -> list[HealthVerdict]:
    """What the rules of an aligner say once all of these values are logged, and the estimates made."""
    told: list[HealthVerdict] = []
    monitor = Monitor("stage", [rule for rule in RULES if rule.aligner == aligner], told.append)
    length = max((len(values) for values in series.values()), default=0)
    for step in range(length):
        monitor.log(step + 1, {name: values[step] for name, values in series.items() if step < len(values)}, length)
    monitor.finish()
    monitor.evaluate(found, "sft", frozenset({"truth"}))
    return told


def names(aligner: str, series: Series, found: Sequence[Estimate] = ()) -> set[str]:
    return {each.rule for each in verdicts(aligner, series, found)}


def estimate(metric: str, value: float, low: float, high: float, **fields: Any) -> Estimate:
    given: dict[str, Any] = {
        "model": "stage", "suite": "heldout", "standard_error": 0.1, "level": 0.95, "n": 30, "clusters": 30, "method": "bca",
        "unit": "", "seed": 0,
    }  # fmt: skip
    return Estimate(metric=metric, value=value, low=low, high=high, **(given | fields))


def against(metric: str, value: float, low: float, high: float, **fields: Any) -> Estimate:
    return estimate(metric, value, low, high, **({"baseline": "sft"} | fields))


def swinging(around: float, by: float, count: int = 10) -> list[float]:
    """Values that alternate between `around` - `by` and `around` + `by`."""
    return [around + (by if place % 2 else -by) for place in range(count)]


def rising(first: float, last: float, count: int = 12) -> list[float]:
    return [first + (last - first) * place / (count - 1) for place in range(count)]


# --- every rule -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.aligner}-{rule.name}")
def test_every_rule_says_what_it_needs_its_bound_its_source_and_what_to_do(rule: Rule) -> None:
    assert rule.scalars or rule.metrics
    assert rule.threshold
    assert rule.source
    assert rule.advice.endswith(".")
    assert rule.look.__doc__ or "oscillating" in rule.name


def test_a_short_log_gives_no_verdict_however_bad_it_looks() -> None:
    assert names("reward", {"accuracy": [0.0] * 9, "loss": [LN2] * 9, "margin_std": [0.0] * 9}) == set()
    assert names("dpo", {"rewards/accuracies": [0.0] * 9}) == set()
    assert names("ppo", {"kl": [99.0] * 2, "policy_loss": [99.0] * 2, "value_loss": [99.0] * 4}) == set()


def test_few_prompts_give_no_verdict_either() -> None:
    assert names("dpo", {}, [estimate("kl", 99, 98, 100, clusters=29)]) == set()


# --- reward model ---------------------------------------------------------------------------------------------------------


def test_reward_accuracy_near_chance() -> None:
    """Ten values that alternate by ±0.02 have a standard error of 0.0067, so Student's interval reaches 0.0151 up."""
    (verdict,) = verdicts("reward", {"accuracy": swinging(0.53, 0.02)})
    assert (verdict.rule, verdict.value) == ("accuracy", pytest.approx(0.53))
    assert names("reward", {"accuracy": swinging(0.54, 0.02)}) == set()


def test_reward_accuracy_is_judged_by_the_second_half_of_training() -> None:
    assert names("reward", {"accuracy": [0.5] * 9 + [0.8] * 11}) == set()
    assert names("reward", {"accuracy": [0.8] * 10 + [0.5] * 10}) == {"accuracy"}


@pytest.mark.parametrize(("low", "expected"), [(0.501, set()), (0.5, {"accuracy"})])
def test_reward_held_out_accuracy(low: float, expected: set[str]) -> None:
    assert names("reward", {}, [estimate("accuracy", 0.6, low, 0.7)]) == expected


def test_reward_at_the_length_baseline() -> None:
    """Shorter answers win 40 %, so preferring the longer one is right in 60 %; scattered by ±0.05, the interval is ±0.038."""
    shorter = [0.4] * 10
    assert names("reward", {"accuracy": swinging(0.63, 0.05), "shorter_wins": shorter}) == {"length-baseline"}
    assert names("reward", {"accuracy": swinging(0.645, 0.05), "shorter_wins": shorter}) == set(), "shown to be ahead"
    assert names("reward", {"accuracy": swinging(0.645, 0.1), "shorter_wins": shorter}) == {"length-baseline"}
    assert names("reward", {"accuracy": swinging(0.651, 0.1), "shorter_wins": shorter}) == set(), "five points ahead"
    assert names("reward", {"accuracy": swinging(0.63, 0.05), "shorter_wins": [0.6] * 10}) == {"length-baseline"}
    assert names("reward", {"accuracy": swinging(0.63, 0.05)}) == set(), "without shorter_wins nothing is said"


@pytest.mark.parametrize("rule", ["shorter", "longer"])
@pytest.mark.parametrize(("low", "expected"), [(0.001, set()), (0.0, {"length-baseline"})])
def test_reward_held_out_length_baseline(rule: str, low: float, expected: set[str]) -> None:
    other = "longer" if rule == "shorter" else "shorter"
    found = [
        estimate(f"accuracy-vs-{rule}", 0.05, low, 0.1, baseline=f"{rule}-wins"),
        estimate(f"accuracy-vs-{other}", 0.2, 0.1, 0.3, baseline=f"{other}-wins"),
    ]
    assert names("reward", {}, found) == expected


def test_reward_margins_alike() -> None:
    assert names("reward", {"margin_std": [0.04] * 9 + [0.05]}) == set()
    assert names("reward", {"margin_std": [0.04] * 9 + [0.049]}) == {"margins-alike"}


@pytest.mark.parametrize("sign", [1, -1])
def test_reward_extreme_rewards(sign: int) -> None:
    """The median of five: one wild value is no verdict."""
    series = {"max_reward": [3.0] * 5, "min_reward": [-3.0] * 5}
    name = "max_reward" if sign > 0 else "min_reward"
    assert names("reward", series | {name: [sign * each for each in (99, 20, 20, 20, 1)]}) == set()
    assert names("reward", series | {name: [sign * each for each in (99, 20.1, 20.1, 1, 1)]}) == {"extreme-rewards"}


def test_reward_loss_stuck() -> None:
    assert names("reward", {"loss": [LN2 + 0.019] * 10}) == {"loss-stuck"}
    assert names("reward", {"loss": [LN2 - 0.019] * 10}) == {"loss-stuck"}
    assert names("reward", {"loss": [LN2] * 9 + [LN2 - 0.021]}) == set()


@pytest.mark.parametrize(("difference", "expected"), [(0.001, set()), (0.0011, {"reload"})])
def test_reward_that_does_not_survive_save_and_reload(difference: float, expected: set[str]) -> None:
    assert names("reward", {"loss": [0.5], "reload_difference": [difference]}) == expected


# --- DPO ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        lambda margin: math.log1p(math.exp(-margin)),
        lambda margin: 0.5 * math.log1p(math.exp(-margin)),
        lambda margin: (margin - 5) ** 2,
        lambda margin: 1 - margin,
    ],
    ids=["sigmoid", "half-a-sigmoid", "ipo", "hinge"],
)
def test_dpo_stuck_at_its_reference(loss: Callable[[float], float]) -> None:
    """Whatever the loss. The sigmoid loss moves by half of the margin: one of 0.01 leaves it 0.005 away from ln 2."""

    def series(chosen: float, rejected: float) -> Series:
        margin = chosen - rejected
        values = {"rewards/chosen": chosen, "rewards/rejected": rejected, "rewards/margins": margin, "loss": loss(margin)}
        return {name: [value] * 5 for name, value in values.items()}

    assert names("dpo", series(0, 0)) == {"stuck"}
    assert names("dpo", series(0.0049, -0.0049)) == {"stuck"}
    assert names("dpo", series(0.0051, -0.0051)) == set()
    assert names("dpo", series(0.0099, 0.0099)) == {"stuck"}
    assert names("dpo", series(0.0101, 0.0101)) == set()
    assert names("dpo", series(-0.0101, -0.0101)) == set()


def test_dpo_accuracy_under_60_percent() -> None:
    """The interval reaches 0.0151 up, as above."""
    (verdict,) = verdicts("dpo", {"rewards/accuracies": swinging(0.58, 0.02)})
    assert (verdict.rule, verdict.value) == ("accuracy", pytest.approx(0.58))
    assert names("dpo", {"rewards/accuracies": swinging(0.59, 0.02)}) == set()


def test_dpo_both_rewards_falling_is_a_note_while_the_margin_grows() -> None:
    series = {"rewards/chosen": rising(0, -0.5), "rewards/rejected": rising(0, -2), "rewards/margins": rising(0, 1.5)}
    (verdict,) = verdicts("dpo", series)
    assert (verdict.rule, verdict.level) == ("both-rewards-fall", "note")
    assert "normal" in verdict.threshold


def test_dpo_both_rewards_falling_without_a_margin_is_a_warning() -> None:
    series = {"rewards/chosen": rising(0, -2), "rewards/rejected": rising(0, -2), "rewards/margins": swinging(0, 0.1, 12)}
    (verdict,) = verdicts("dpo", series)
    assert (verdict.rule, verdict.level) == ("rewards-collapse", "warning")


def test_dpo_a_margin_that_is_not_yet_shown_to_grow_is_no_warning() -> None:
    """Rewards fall to -2 over 12 values, the margin grows along a line to 0.36, ±0.3 with every other value.

    Its thirds have the means 0.049 and 0.311, so it changed by 0.262, more than a tenth of the fall of 1.73. With a standard
    deviation of about 0.36 in each third, Student's interval of that is ±0.6: growth is neither shown nor excluded.
    """
    margin = [value + swing for value, swing in zip(rising(0, 0.36), swinging(0, 0.3, 12), strict=True)]
    falling = {"rewards/chosen": rising(0, -2), "rewards/rejected": rising(0, -2), "rewards/margins": margin}
    (verdict,) = verdicts("dpo", falling)
    assert (verdict.rule, verdict.level) == ("both-rewards-fall", "note")
    assert "changed by +0.262 (-" in verdict.text


def test_dpo_a_collapse_is_told_mid_training_only_where_growth_is_excluded() -> None:
    """At the ninth of twelve values the chosen reward fell by 2 · 7/11 = 1.27; a tenth of that is 0.127.

    Thirds of the margin such as -a, a, -a have the variance 4a²/3, so the interval of the change 0 is ±2.776 · √(8/9) a =
    ±2.62 a: 0.118 for a = 0.045, 0.131 for 0.05. At the end the change itself is compared.
    """

    def step(swing: float) -> int | None:
        series = {
            "rewards/chosen": rising(0, -2),
            "rewards/rejected": rising(0, -2),
            "rewards/margins": swinging(0, swing, 12),
        }
        (verdict,) = verdicts("dpo", series)
        assert verdict.rule == "rewards-collapse"
        return verdict.step

    assert step(0.045) == 9
    assert step(0.5) == 12


def test_dpo_noise_hides_neither_a_margin_that_grows_nor_one_that_stays() -> None:
    """Twenty logged values, a chosen reward that falls by 0.5; fifty draws of each."""
    rng = random.Random(1)

    def warned(margin: float, noise: float) -> int:
        found = 0
        for _ in range(50):
            margins = [value + rng.gauss(0, noise) for value in rising(0, margin, 20)]
            chosen = [value + rng.gauss(0, 0.05) for value in rising(0, -0.5, 20)]
            rejected = [value - above for value, above in zip(chosen, margins, strict=True)]
            series = {"rewards/chosen": chosen, "rewards/rejected": rejected, "rewards/margins": margins}
            found += "rewards-collapse" in names("dpo", series)
        return found

    assert warned(0.5, noise=0.12) == 0
    assert warned(0, noise=0.03) >= 47


def test_dpo_rewards_that_hardly_fall_or_that_part_are_no_news() -> None:
    """The last third of a line from 0 to -0.115 has the mean -0.0993."""
    flat = {"rewards/chosen": rising(0, -0.115), "rewards/rejected": rising(0, -2), "rewards/margins": rising(0, 1.9)}
    assert names("dpo", flat) == set()
    parting = {"rewards/chosen": rising(0, 1), "rewards/rejected": rising(0, -1), "rewards/margins": rising(0, 2)}
    assert names("dpo", parting) == set()


def test_dpo_rewards_without_a_reference_are_negative_and_fall_from_where_they_began() -> None:
    """The last third of a line down by 0.115 lies 0.0993 below its first value.

    The verdict comes with the ninth of twelve values, and the seventh to the ninth of a line lie 7/11 of its length down.
    """
    apart = {"rewards/margins": swinging(0.2, 0.002, 12)}
    assert names("dpo", {"rewards/chosen": rising(-3, -3.115), "rewards/rejected": rising(-3.2, -3.315), **apart}) == set()
    (verdict,) = verdicts("dpo", {"rewards/chosen": rising(-3, -3.2), "rewards/rejected": rising(-3.2, -3.4), **apart})
    assert (verdict.rule, verdict.level, verdict.value) == ("rewards-collapse", "warning", pytest.approx(-0.2 * 7 / 11))
    parting = {
        "rewards/chosen": rising(-3, -3.2),
        "rewards/rejected": rising(-3.2, -4),
        "rewards/margins": rising(0.2, 0.8),
    }
    assert names("dpo", parting) == {"both-rewards-fall"}


def test_dpo_a_reward_that_begins_above_zero_falls_from_zero() -> None:
    falling = {
        "rewards/margins": swinging(0, 0.1, 12),
        "rewards/chosen": rising(0.2, -0.1),
        "rewards/rejected": rising(0, -2),
    }
    assert names("dpo", falling) == set()


@pytest.mark.parametrize(("low", "expected"), [(5.0, set()), (5.01, {"kl"})])
def test_dpo_kl_over_5(low: float, expected: set[str]) -> None:
    assert names("dpo", {}, [estimate("kl", 6, low, 7)]) == expected


def test_dpo_answer_length_drifting() -> None:
    """100 characters before; the verdict needs the whole interval beyond a quarter."""

    def drift(change: float, low: float, high: float) -> set[str]:
        found = [estimate("length", 100 + change, 0, 999), against("length", change, low, high)]
        return names("dpo", {}, found)

    assert drift(30, 25.1, 35) == {"length-drift"}
    assert drift(30, 24.9, 35) == set()
    assert drift(-30, -35, -25.1) == {"length-drift"}
    assert drift(-30, -35, -24.9) == set()


# --- PPO ------------------------------------------------------------------------------------------------------------------

RISE = {"score": [place + (0.1 if place % 2 else 0.0) for place in range(12)]}
FLAT = {"score": swinging(0, 0.1, 12)}


@pytest.mark.parametrize(
    "found",
    [
        against("reward", -1, -2, -0.01, judge="truth"),
        against("win-rate", 0.4, 0.3, 0.499, judge="truth"),
    ],
    ids=["reward", "win-rate"],
)
def test_ppo_hacking_is_a_score_that_rises_while_an_independent_judge_sees_a_loss(found: Estimate) -> None:
    assert names("ppo", RISE, [found]) == {"hacking"}
    assert names("ppo", FLAT, [found]) == set(), "nothing rose"
    assert names("ppo", RISE, [found.model_copy(update={"judge": "reward"})]) == set(), "that judge lies upstream"
    inside = found.model_copy(update={"high": found.high + 0.01})
    assert names("ppo", RISE, [inside]) == set(), "a loss is not shown"


def test_ppo_diversity_falling_while_the_score_rises() -> None:
    """First and last thirds of four values each, apart by 0.11 and by 0.09."""
    assert names("ppo", RISE | {"distinct_2": [0.9] * 4 + [0.85] * 4 + [0.79] * 4}) == {"diversity"}
    assert names("ppo", RISE | {"distinct_2": [0.9] * 4 + [0.85] * 4 + [0.81] * 4}) == set()
    assert names("ppo", FLAT | {"distinct_2": [0.9] * 4 + [0.85] * 4 + [0.79] * 4}) == set()
    assert names("ppo", RISE, [against("distinct-2", -0.2, -0.3, -0.101)]) == {"diversity"}
    assert names("ppo", RISE, [against("distinct-2", -0.2, -0.3, -0.099)]) == set()


def test_ppo_fluency_falling_while_the_score_rises() -> None:
    assert names("ppo", RISE | {"ref_logprob": [-1.0] * 4 + [-1.2] * 4 + [-1.51] * 4}) == {"fluency"}
    assert names("ppo", RISE | {"ref_logprob": [-1.0] * 4 + [-1.2] * 4 + [-1.49] * 4}) == set()
    assert names("ppo", FLAT | {"ref_logprob": [-1.0] * 4 + [-1.2] * 4 + [-1.51] * 4}) == set()


def test_ppo_repeated_answers() -> None:
    assert names("ppo", {"repeated_answers": [0.1] * 5 + [0.36] * 5}) == {"repeated-answers"}
    assert names("ppo", {"repeated_answers": [0.1] * 5 + [0.34] * 5}) == set()
    assert names("ppo", {}, [against("distinct-answers", -0.4, -0.5, -0.26)]) == {"repeated-answers"}
    assert names("ppo", {}, [against("distinct-answers", -0.4, -0.5, -0.24)]) == set()


def test_ppo_entropy_collapse() -> None:
    assert names("ppo", {"entropy": [1.0] * 5 + [0.19] * 5}) == {"entropy"}
    assert names("ppo", {"entropy": [1.0] * 5 + [0.21] * 5}) == set()


@pytest.mark.parametrize("name", ["reward", "policy_loss"])
def test_ppo_oscillating(name: str) -> None:
    """±a around a straight line deviates by a little more than a; the slope of the line itself counts for nothing."""
    assert names("ppo", {name: swinging(0, 1.01)}) == {"oscillating"}
    assert names("ppo", {name: swinging(0, 0.9)}) == set()
    if name == "reward":
        assert names("ppo", {name: rising(-50, 50, 10)}) == set()
        assert names("ppo", {name: [0.0] * 5 + [9.0] * 5}) == set(), "one leap is no oscillation"


def test_ppo_kl_over_10() -> None:
    assert names("ppo", {"kl": [0, 10, 10.1]}) == set()
    assert names("ppo", {"kl": [9.9, 10.1, 10.1]}) == {"kl"}
    assert names("ppo", {}, [estimate("kl", 11, 10.01, 12)]) == {"kl"}
    assert names("ppo", {}, [estimate("kl", 11, 10, 12)]) == set()


def test_ppo_negative_kl() -> None:
    """±0.02 has an interval of ±0.0151; noise around zero is no verdict, nor is a policy that has not moved."""
    assert names("ppo", {"kl": swinging(-0.07, 0.02)}) == {"negative-kl"}
    assert names("ppo", {"kl": swinging(-0.06, 0.02)}) == set()
    assert names("ppo", {"kl": swinging(-0.2, 0.5)}) == set()
    assert names("ppo", {"kl": [-1e-6] * 10}) == set()


def test_ppo_exploding_kl() -> None:
    assert names("ppo", {"kl": [1.0] * 5 + [5.1]}) == {"exploding-kl"}
    assert names("ppo", {"kl": [1.0] * 5 + [4.9]}) == set()
    assert names("ppo", {"kl": [1.1] * 5 + [5.4]}) == set(), "not five times what it was"


def test_ppo_policy_loss_over_5() -> None:
    assert names("ppo", {"policy_loss": [5.1] * 3}) == {"policy-loss"}
    assert names("ppo", {"policy_loss": [-5.1] * 3}) == {"policy-loss"}
    assert names("ppo", {"policy_loss": [4.9] * 3}) == set()


def test_ppo_value_loss_over_10_once_the_critic_had_time_to_learn() -> None:
    assert names("ppo", {"value_loss": [10.1] * 10}) == {"value-loss"}
    assert names("ppo", {"value_loss": [9.9] * 10}) == set()
    assert names("ppo", {"value_loss": [99.0] * 4 + [1.0] * 8}) == set()


def test_ppo_explained_variance_under_0() -> None:
    """Five values -0.07, -0.03, …: mean -0.054, standard error 0.0098, so the interval ends at -0.027."""
    assert names("ppo", {"explained_variance": swinging(-0.05, 0.02, 10)}) == {"explained-variance"}
    assert names("ppo", {"explained_variance": swinging(-0.05, 0.1, 10)}) == set()
    assert names("ppo", {"explained_variance": [-1.0] * 4 + [0.3] * 8}) == set()


def test_ppo_too_many_ratio_skips() -> None:
    assert names("ppo", {"skipped": [1, 0, 0, 0, 2, 0, 0, 1]}) == {"skips"}
    assert names("ppo", {"skipped": [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1]}) == set(), "never three in ten"
