"""Which statistic, interval and test an estimate gets."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import harness
from harness.metrics import Measure
from harness.records import Observation
from harness.stats import (
    TooFewPrompts,
    estimate,
    estimate_columns,
    expected_calibration_error,
    paired_difference,
    spearman,
    wilson,
)


def observe(
    values: list[float], baselines: list[float] | None = None, roots: str | None = None, **fields: Any
) -> list[Observation]:
    names: dict[str, Any] = {"suite": "heldout", "model": "dpo", "metric": "m", "judge": "referee"} | fields
    return [
        Observation(
            prompt_id=str(i),
            root=roots[i] if roots else str(i),
            value=value,
            baseline_value=baselines[i] if baselines else None,
            **names,
        )
        for i, value in enumerate(values)
    ]


def measure(**fields: Any) -> Measure:
    return Measure(**({"name": "m", "unit": "points"} | fields))


def test_fields_are_those_of_the_observations() -> None:
    made = estimate(observe([1.0, 2, 4, 8], roots="aabc"), measure(), level=0.9, resamples=500, seed=7)
    assert (made.model, made.metric, made.judge, made.suite, made.baseline) == ("dpo", "m", "referee", "heldout", None)
    assert (made.n, made.clusters, made.level, made.seed, made.unit) == (4, 3, 0.9, 7, "points")
    assert made.value == 3.75
    assert made.low < made.value < made.high
    assert (made.method, made.resamples) == ("student-t-clustered", None)  # three clusters
    assert made.p_value is None


def test_ten_clusters_are_resampled() -> None:
    nine, ten = (estimate(observe([float(i * i) for i in range(n)]), measure(), resamples=500) for n in (9, 10))
    assert (nine.method, nine.resamples) == ("student-t", None)
    assert (ten.method, ten.resamples) == ("bca", 500)


def test_a_fitted_statistic_says_how_many_resamples_it_got() -> None:
    fitted = measure(statistic=lambda x: x.max(axis=-1))
    values = np.random.default_rng(1).normal(size=4000).tolist()
    assert estimate(observe(values), fitted).resamples == 1250  # 5,000,000 / 4,000
    assert estimate(observe(values), fitted, resamples=200).resamples == 200
    assert estimate(observe(values), measure()).resamples == 10_000


def test_rates_get_wilsons_interval() -> None:
    made = estimate(observe([1.0, 0, 0, 0, 1, 1, 1, 1, 1, 1]), measure(null=0.5))
    assert (made.low, made.high) == wilson(7, 10)
    assert made.method == "wilson"
    assert made.p_value == pytest.approx(2 * (1 + 10 + 45 + 120) / 1024)


def test_only_a_rate_is_uncertain_when_nothing_varies() -> None:
    refusals = estimate(observe([0.0] * 30), measure(unit="share of prompts"))
    assert (refusals.low, refusals.high) == wilson(0, 30)
    tokens = estimate(observe([1.0] * 30), measure(unit="tokens per answer"))
    assert (tokens.low, tokens.high, tokens.method) == (1, 1, "exact-constant")


def test_win_rate_with_ties_is_a_rate_and_compares_already() -> None:
    wins = observe([1.0, 0.5, 0, 1, 1, 1, 0.5, 1])
    made = estimate(wins, measure(unit="share of prompts", null=0.5), baseline="sft")
    assert (made.value, made.baseline, made.method, made.resamples) == (0.75, "sft", "wilson", None)
    assert made.p_value == pytest.approx(2 * (1 + 6) / 2**6)  # 5 wins, 1 loss


def test_a_baseline_against_itself_is_exactly_half() -> None:
    made = estimate(observe([0.5] * 8), measure(null=0.5), baseline="sft")
    assert (made.value, made.low, made.high, made.standard_error, made.p_value) == (0.5, 0.5, 0.5, 0.0, 1.0)
    assert made.method == "exact-constant"


def test_paired_difference_from_the_baseline() -> None:
    # A large spread between prompts that the pairing removes: differences 1, 1, 2, 2.
    made = estimate(observe([11.0, 101, 1002, 10002], [10.0, 100, 1000, 10000]), measure(), baseline="sft")
    # s² = 4 · 0.25 / 3 = 1/3, so the standard error is 1 / √12; t_3 = 3.182446 (any table).
    assert (made.value, made.method) == (1.5, "student-t")
    assert (made.low, made.high) == pytest.approx((1.5 - 3.182446 / 12**0.5, 1.5 + 3.182446 / 12**0.5), abs=1e-6)
    assert made.p_value == pytest.approx(2 / 2**4)


def test_a_difference_of_rates_is_no_rate() -> None:
    made = estimate(observe([1.0, 1, 0, 1, 0, 0], [0.0, 1, 0, 0, 0, 0]), measure(), baseline="sft")
    assert made.value == pytest.approx(1 / 3)
    assert made.method == "agresti-min"
    # Thirty answers of one token each are no rates, whatever they are compared with.
    tokens = estimate(observe([1.0] * 30, [1.0] * 30), measure(unit="tokens"), baseline="sft")
    assert tokens.method == "exact-constant"
    refusals = estimate(observe([0.0] * 30, [0.0] * 30), measure(unit="share of answers"), baseline="sft")
    assert refusals.method == "agresti-min"
    assert refusals.low < 0 < refusals.high


def test_a_difference_of_preferences_with_ties_is_resampled() -> None:
    values = [0.0, 0.5, 1.0, 1.0, 0.5, 1.0, 0.0, 1.0, 0.5, 1.0]
    made = estimate(observe(values, values[::-1]), measure(unit="share of prompts"), baseline="sft", resamples=500)
    assert made.method == "bca"


def test_without_a_baseline_its_values_are_left_alone() -> None:
    assert estimate(observe([1.0, 2, 3], [1.0, 1, 1]), measure(), resamples=100).value == 2


def test_only_prompts_that_both_have_are_compared() -> None:
    both = observe([1.0, 2, 4], [0.0, 0, 0])
    only = [o.model_copy(update={"prompt_id": "x", "root": "x", "baseline_value": None}) for o in both[:1]]
    assert estimate(both + only, measure(), baseline="sft", resamples=100).n == 3


def test_a_fitted_statistic_is_fitted_to_each_side() -> None:
    fitted = measure(statistic=lambda x: np.median(x, axis=-1), null=0.5)
    alone = estimate(observe([1.0, 2, 9]), fitted, resamples=500)
    assert (alone.value, alone.p_value) == (2, None)
    # Medians 2 and 1; the median of the differences would be 0.
    made = estimate(observe([1.0, 2, 9], [1.0, 9, 0]), fitted, baseline="sft", resamples=500)
    assert made.value == 1
    assert made.standard_error is not None
    assert made.standard_error > 0


def test_covariates_are_further_columns_of_a_fitted_statistic() -> None:
    weighted = measure(statistic=lambda x, w: (x * w).sum(axis=-1) / w.sum(axis=-1))
    one = [o.model_copy(update={"covariates": (w,)}) for o, w in zip(observe([1.0, 2, 9]), [1.0, 1, 2], strict=True)]
    assert estimate(one, weighted, resamples=200).value == (1 + 2 + 18) / 4
    # The other model has weights of its own, which the difference keeps: (0·2 + 4·1 + 4·1) / 4 = 2.
    other = [
        o.model_copy(update={"model": "ppo", "covariates": (w,)})
        for o, w in zip(observe([0.0, 4, 4]), [2.0, 1, 1], strict=True)
    ]
    assert paired_difference(one, other, weighted, resamples=200).value == 21 / 4 - 2
    # Without a statistic they change nothing.
    assert estimate(one, measure(), resamples=200) == estimate(observe([1.0, 2, 9]), measure(), resamples=200)
    with pytest.raises(ValueError, match="covariates"):
        estimate([*one[:2], observe([1.0, 2, 9])[2]], weighted)


def test_two_candidates_by_their_common_prompts() -> None:
    dpo = observe([1.0, 1, 0.5, 1, 0])
    ppo = [o.model_copy(update={"model": "ppo"}) for o in observe([0.0, 1, 0, 0.5])]
    made = paired_difference(dpo, ppo, measure(unit="rate", null=0.5), resamples=500)
    assert (made.model, made.baseline, made.metric, made.n) == ("dpo", "ppo", "m-difference", 4)
    assert made.value == pytest.approx((1 + 0 + 0.5 + 0.5) / 4)
    assert made.p_value == pytest.approx(2 / 2**3)  # three above 0, one tie
    back = paired_difference(ppo, dpo, measure(), resamples=500)
    assert back.value == -made.value


def test_candidates_without_common_prompts_have_no_difference() -> None:
    other = [o.model_copy(update={"prompt_id": "x", "model": "ppo"}) for o in observe([1.0])]
    with pytest.raises(TooFewPrompts, match="share no prompt"):
        paired_difference(observe([1.0]), other, measure())


@pytest.mark.parametrize("field", ["metric", "judge", "suite"])
def test_unlike_observations_are_not_paired(field: str) -> None:
    with pytest.raises(ValueError, match="one metric, judge and suite"):
        paired_difference(observe([1.0, 2]), observe([1.0, 2], **{field: "other"}), measure())


def test_a_prompt_is_paired_once() -> None:
    twice = observe([1.0]) + observe([2.0])
    with pytest.raises(ValueError, match="observed twice"):
        paired_difference(twice, observe([1.0]), measure())


@pytest.mark.parametrize("field", ["model", "metric", "judge", "suite"])
def test_observations_of_one_kind_only(field: str) -> None:
    with pytest.raises(ValueError, match="differ"):
        estimate(observe([1.0, 2]) + observe([1.0], **{field: "other"}), measure())


def test_the_measure_must_be_theirs() -> None:
    with pytest.raises(ValueError, match="observations of m for the measure other"):
        estimate(observe([1.0, 2]), measure(name="other"))
    with pytest.raises(ValueError, match="no observations"):
        estimate([], measure())


def test_one_prompt_names_what_is_missing() -> None:
    with pytest.raises(TooFewPrompts, match=r"^m of dpo on heldout: .*evaluate more prompts"):
        estimate(observe([0.7]), measure())
    assert estimate(observe([1.0]), measure(unit="share of prompts")).method == "wilson"


def test_columns_are_clustered_and_named() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=80)
    made = estimate_columns(
        [truth + 0.5 * rng.normal(size=80), truth],
        [str(i // 2) for i in range(80)],
        spearman,
        model="reward",
        metric="spearman",
        suite="heldout",
        unit="correlation",
        resamples=500,
    )
    assert 0.5 < made.low < made.value < made.high < 1
    assert (made.n, made.clusters, made.method, made.judge) == (80, 40, "bca-clustered", None)


def test_calibration_error_is_bootstrapped() -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.uniform(size=200)
    outcomes = (rng.uniform(size=200) < probabilities**3).astype(float)  # overconfident
    made = estimate_columns(
        [probabilities, outcomes],
        range(200),
        expected_calibration_error,
        model="reward",
        metric="ece",
        suite="heldout",
        unit="probability",
        resamples=500,
    )
    # E|p - p³| = 1/2 - 1/4.
    assert made.low < 0.25 < made.high
    assert made.method == "bca"


def test_columns_must_fit_their_roots() -> None:
    with pytest.raises(ValueError, match="2 roots"):
        estimate_columns(np.zeros((2, 3)), "ab", spearman, model="m", metric="s", suite="s", unit="u")


def test_importing_imports_neither_torch_nor_scipy() -> None:
    code = "import sys, harness.stats; sys.exit(bool({'torch', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_estimate_is_the_public_record() -> None:
    assert isinstance(estimate(observe([1.0, 2]), measure(), resamples=50), harness.Estimate)


def test_signs_that_go_the_other_way_than_the_mean_confirm_nothing() -> None:
    """70 of 100 prompts lose by .05 and 30 win by .45: .6 on average, and the sign test of losing has p = 8e-5."""
    made = estimate(observe([0.45] * 70 + [0.95] * 30), measure(null=0.5), baseline="b")
    assert (made.value, made.p_value) == (pytest.approx(0.6), 1.0)
    assert made.low > 0.5


def test_a_difference_of_shares_ends_where_shares_do() -> None:
    """Two prompts, -0.5 and 0: Student's interval alone would reach from -3.4 to 2.9."""
    made = estimate(observe([0.5, 0.5], [1.0, 0.5]), measure(unit="share of prompts"), baseline="b")
    assert (made.value, made.low, made.high) == (-0.25, -1.0, 1.0)
    free = estimate(observe([0.5, 0.5], [1.0, 0.5]), measure(unit="nats"), baseline="b")
    assert free.low < -3
