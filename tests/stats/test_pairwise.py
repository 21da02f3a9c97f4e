"""Differences of many models: the same as one by one, and on common prompts only."""

from __future__ import annotations

import numpy as np
import pytest

from harness.metrics import Measure
from harness.records import Observation
from harness.stats import paired_difference, pairwise, pairwise_differences, rate_difference_interval
from harness.stats.clusters import Clusters

NAMES = {"metric": "win-rate-difference", "judge": "j", "suite": "s", "unit": "share of prompts"}


def values(seed: int, n: int = 60) -> dict[object, float]:
    return {f"p{number}": float(value) for number, value in enumerate(np.random.default_rng(seed).uniform(size=n))}


def test_it_is_the_paired_difference_of_observations() -> None:
    data = {"a": values(0), "b": values(1)}
    roots = {prompt: f"r{number // 2}" for number, prompt in enumerate(data["a"])}
    ((made,), skipped) = pairwise_differences(data, roots, resamples=2000, seed=3, **NAMES)
    first, second = (
        [
            Observation(
                prompt_id=str(prompt), root=roots[prompt], suite="s", model=name, metric="win-rate", judge="j", value=value
            )
            for prompt, value in data[name].items()
        ]
        for name in ("b", "a")
    )
    measure = Measure(name="win-rate", unit="share of prompts", null=0.5)
    assert made == paired_difference(first, second, measure, resamples=2000, seed=3)
    assert skipped == []


def test_every_pair_later_less_earlier_over_common_prompts() -> None:
    data = {"a": {"x": 0.2, "y": 0.4, "z": 0.9}, "b": {"x": 0.7, "y": 0.5}, "c": {"w": 1.0}}
    made, skipped = pairwise_differences(data, {each: each for each in "wxyz"}, **NAMES)
    # (0.7 - 0.2 + 0.5 - 0.4) / 2 = 0.3
    assert [(each.model, each.baseline, each.n) for each in made] == [("b", "a", 2)]
    assert made[0].value == pytest.approx(0.3)
    assert [text.partition(" share")[0] for text in skipped] == ["c and a", "c and b"]


def test_rates_get_the_interval_for_rates() -> None:
    one, other = np.random.default_rng(2).integers(0, 2, (2, 40)).astype(float)
    data = {"a": dict(enumerate(one)), "b": dict(enumerate(other))}
    (made,), _ = pairwise_differences(data, {each: each for each in range(40)}, **NAMES)
    expected = rate_difference_interval(other - one, Clusters.of(range(40)))
    assert (made.low, made.high, made.method) == (expected.low, expected.high, "agresti-min")


def test_too_many_pairs_get_students_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"a": values(0), "b": values(1)}
    (slow,), _ = pairwise_differences(data, {each: each for each in data["a"]}, **NAMES)
    monkeypatch.setattr(pairwise, "DRAWN", 1000)
    (quick,), _ = pairwise_differences(data, {each: each for each in data["a"]}, **NAMES)
    assert (slow.method, quick.method, quick.resamples) == ("bca", "student-t", None)
    assert (quick.low, quick.high) == pytest.approx((slow.low, slow.high), abs=0.02)


def test_limits_end_where_differences_of_shares_do_and_signs_against_the_mean_confirm_nothing() -> None:
    (few,), _ = pairwise_differences({"a": {"x": 1.0, "y": 0.5}, "b": {"x": 0.5, "y": 0.5}}, {"x": "x", "y": "y"}, **NAMES)
    assert (few.low, few.high) == (-1.0, 1.0)
    prompts = [str(number) for number in range(100)]
    other = {prompt: 0.5 + (0.45 if number < 30 else -0.05) for number, prompt in enumerate(prompts)}
    (made,), _ = pairwise_differences({"a": dict.fromkeys(prompts, 0.5), "b": other}, {p: p for p in prompts}, **NAMES)
    assert (made.value, made.p_value) == (pytest.approx(0.1), 1.0)
