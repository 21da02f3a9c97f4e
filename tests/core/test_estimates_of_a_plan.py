"""Which numbers the measures of a plan become: levels, differences from the baseline and between candidates, agreement."""

from __future__ import annotations

import pytest

from harness import Estimate, Measure, Observation, Score
from harness.evaluation.estimates import adjusted, agreement, make_estimates
from harness.plan.model import Bootstrap

BOOTSTRAP = Bootstrap(resamples=200)


def observe(
    model: str,
    metric: str,
    values: list[float],
    others: list[float] | None = None,
    baseline: str | None = None,
    judge: str | None = "j",
) -> list[Observation]:
    return [
        Observation(
            prompt_id=f"p{number}", root=f"p{number}", suite="s", model=model, metric=metric, judge=baseline and judge,
            baseline=baseline, value=value, baseline_value=others[number] if others else None,
        )
        for number, value in enumerate(values)
    ]  # fmt: skip


def made(observations: list[Observation], measure: Measure, scope: str) -> dict[tuple[str, str, str | None], float]:
    found = make_estimates(observations, {measure.name: (measure, scope)}, "old", BOOTSTRAP, 0)
    return {(e.model, e.metric, e.baseline): e.value for e in found if isinstance(e, Estimate)}


def test_a_measure_of_samples_has_a_level_and_a_paired_difference() -> None:
    old, new = [1.0, 2.0, 3.0], [2.0, 5.0, 3.5]
    observations = observe("old", "length", old) + observe("new", "length", new, old)
    values = made(observations, Measure(name="length", unit="characters"), "samples")
    # (1 + 2 + 3) / 3 = 2; (2 + 5 + 3.5) / 3 = 3.5; the differences 1, 3 and 0.5 have the mean 1.5
    assert values == pytest.approx(
        {("old", "length", None): 2.0, ("new", "length", None): 3.5, ("new", "length", "old"): 1.5}
    )


def test_a_measure_that_does_not_compare_has_its_level_only() -> None:
    observations = observe("new", "kl", [1.0, 2.0, 4.0], [0.0, 0.0, 0.0])
    assert list(made(observations, Measure(name="kl", unit="nats", compare=False), "samples")) == [("new", "kl", None)]


def test_candidates_are_compared_prompt_by_prompt_the_later_one_minus_the_earlier() -> None:
    observations = [
        *observe("dpo", "win-rate", [1, 0, 0.5, 0], baseline="old"),
        *observe("ppo", "win-rate", [1, 1, 1, 0], baseline="old"),
        *observe("ppo", "win-rate", [1, 1, 0, 1], baseline="dpo"),
    ]
    values = made(observations, Measure(name="win-rate", unit="share of prompts", compare=False, null=0.5), "judgements")
    # 1.5 / 4 and 3 / 4; the differences 0, 1, 0.5 and 0 have the mean 0.375
    assert values == pytest.approx({
        ("dpo", "win-rate", "old"): 0.375, ("ppo", "win-rate", "old"): 0.75, ("ppo", "win-rate-difference", "dpo"): 0.375,
        ("ppo", "win-rate", "dpo"): 0.75,
    })  # fmt: skip


def compared(preferences: dict[tuple[str, str, str], list[float]]) -> dict[tuple[str, str, str, str | None], Estimate]:
    """Estimates with adjusted p-values, from preferences by model, judge and suite."""
    measures = {
        "win-rate": (Measure(name="win-rate", unit="share of prompts", compare=False, null=0.5), "judgements"),
        "length": (Measure(name="length", unit="characters"), "samples"),
    }
    observations = [
        each.model_copy(update={"suite": suite})
        for (model, judge, suite), values in preferences.items()
        for each in observe(model, "win-rate", values, baseline="old", judge=judge)
    ]
    observations += observe("dpo", "length", [1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    made = adjusted(make_estimates(observations, measures, "old", BOOTSTRAP, 0), measures)
    return {(e.model, e.metric, e.suite, e.judge): e for e in made if isinstance(e, Estimate)}


def test_comparisons_of_one_judge_on_one_suite_are_adjusted_together() -> None:
    """Wins of 10 against 0, and of 8 against 2; the candidates differ on two prompts, both times the same way."""
    found = compared({("dpo", "j", "s"): [1.0] * 10, ("ppo", "j", "s"): [1.0] * 8 + [0.0] * 2})
    dpo, ppo, difference = (
        found["dpo", "win-rate", "s", "j"], found["ppo", "win-rate", "s", "j"], found["ppo", "win-rate-difference", "s", "j"],
    )  # fmt: skip
    # 2 / 2¹⁰; 2 · (1 + 10 + 45) / 2¹⁰; 2 / 2².
    assert (dpo.p_value, ppo.p_value, difference.p_value) == pytest.approx((2 / 1024, 112 / 1024, 0.5))
    # Holm: the least times three, the next times two, the last by itself.
    assert (dpo.p_adjusted, ppo.p_adjusted, difference.p_adjusted) == pytest.approx((6 / 1024, 224 / 1024, 0.5))


def test_another_judge_or_suite_is_another_question() -> None:
    alone = compared({("dpo", "j", "s"): [1.0] * 10})
    beside = compared({("dpo", "j", "s"): [1.0] * 10, ("dpo", "k", "s"): [1.0] * 9 + [0.0], ("dpo", "j", "t"): [0.0] * 10})
    key = ("dpo", "win-rate", "s", "j")
    assert alone[key].p_adjusted == beside[key].p_adjusted == alone[key].p_value == pytest.approx(2 / 1024)


def test_what_compares_no_preferences_is_not_adjusted() -> None:
    length = compared({("dpo", "j", "s"): [1.0] * 10})["dpo", "length", "s", None]
    assert length.p_value is not None
    assert length.p_adjusted is None


def test_a_reward_model_is_compared_with_the_rule_that_its_measure_names() -> None:
    observations = observe("reward", "accuracy-vs-shorter", [1, 1, 0, 1], [0, 1, 0, 1])
    measure = Measure(name="accuracy-vs-shorter", unit="share of pairs", against="shorter-wins")
    assert made(observations, measure, "pairs") == {("reward", "accuracy-vs-shorter", "shorter-wins"): 0.25}


def test_too_few_prompts_become_a_sentence() -> None:
    (text,) = make_estimates(
        observe("new", "kl", [1.5]), {"kl": (Measure(name="kl", unit="nats"), "samples")}, "old", BOOTSTRAP, 0
    )
    assert "kl of new on s" in str(text)


def test_agreement_is_a_rank_correlation_over_answers_that_both_scored() -> None:
    def score(judge: str, number: int, value: float | None) -> Score:
        return Score(prompt_id=f"p{number}", suite="s", judge=judge, model="m", score=value)

    # ranks 1 2 3 4 5 against 1 2 3 5 4: 1 - 6 * (1 + 1) / (5 * 24) = 0.9 (Spearman 1904); Pearson's would be far lower
    mine, truth = [1.0, 2.0, 3.0, 4.0, 100.0, None], [1.0, 2.0, 3.0, 5.0, 4.0, 9.0]
    triples = [
        (score("referee", n, a), score("truth", n, b), f"p{n}") for n, (a, b) in enumerate(zip(mine, truth, strict=True))
    ]
    (found,) = agreement("referee", "truth", "s", triples, BOOTSTRAP, 0)
    assert isinstance(found, Estimate)
    assert (found.model, found.metric, found.judge, found.n) == ("referee", "spearman", "truth", 5)
    assert found.value == pytest.approx(0.9)
