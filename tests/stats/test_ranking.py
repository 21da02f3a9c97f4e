"""Rankings: by hand where possible, coverage of their intervals by simulation, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.errors import StageError
from harness.stats import NotConnected, Ranking, TooFewPrompts, rank_models, strength_estimates

Comparisons = tuple[list[str], list[str], list[float], list[str]]


def star(strengths: dict[str, float], prompts: int, seed: int, correlated: float = 0.0, siblings: int = 1) -> Comparisons:
    """Every model against "base" on the same prompts, with noise shared by the prompts of a root; 0/1 preferences."""
    rng = np.random.default_rng(seed)
    shared = np.repeat(correlated * rng.normal(size=prompts // siblings), siblings)
    first, second, preferences, roots = [], [], [], []
    for name, strength in strengths.items():
        wins = rng.random(prompts) < 1 / (1 + np.exp(-(strength + shared)))
        first += [name] * prompts
        second += ["base"] * prompts
        preferences += wins.astype(float).tolist()
        roots += [f"root {number // siblings}" for number in range(prompts)]
    return first, second, preferences, roots


def places(ranking: Ranking) -> dict[str, tuple[int, int]]:
    return {each.model: (each.rank_low, each.rank_high) for each in ranking.standings}


def test_values_by_hand() -> None:
    # a wins 3 of 4 against base: log 3 between them.
    ranking = rank_models(["a"] * 4, ["base"] * 4, [1, 1, 0.5, 0.5], list("wxyz"), resamples=500)
    first, second = ranking.standings
    assert (first.model, first.rank, second.model, second.rank) == ("a", 1, "base", 2)
    assert first.strength == pytest.approx(math.log(3) / 2)
    assert (ranking.comparisons, ranking.clusters, ranking.resamples) == (4, 4, 500)


def test_far_apart_models_have_one_rank_each_and_equal_ones_share_a_group() -> None:
    ranking = rank_models(*star({"good": 2.0, "fair": 0.02, "poor": -2.0}, 600, 3), resamples=2000)
    assert places(ranking) == {"good": (1, 1), "fair": (2, 3), "base": (2, 3), "poor": (4, 4)}
    groups = {each.model: each.groups for each in ranking.standings}
    assert groups == {"good": ("a",), "fair": ("b",), "base": ("b",), "poor": ("c",)}


def test_groups_may_overlap() -> None:
    # Steps too small to see, ends too far apart to overlook: at least one model stands in two groups.
    ranking = rank_models(*star({f"m{n}": 0.12 * n for n in range(-4, 5)}, 300, 0), resamples=2000)
    assert max(len(each.groups) for each in ranking.standings) > 1
    assert set(ranking.standings[0].groups).isdisjoint(ranking.standings[-1].groups)


def test_a_seed_gives_the_same_ranking_twice() -> None:
    data = star({"a": 0.5, "b": 0.0}, 50, 1)
    assert rank_models(*data, resamples=300, seed=4) == rank_models(*data, resamples=300, seed=4)


def test_who_is_named_first_does_not_matter() -> None:
    first, second, preferences, roots = star({"a": 0.8, "b": -0.3}, 80, 2)
    turned = rank_models(second, first, [1 - each for each in preferences], roots, resamples=300)
    straight = {
        each.model: each.strength for each in rank_models(first, second, preferences, roots, resamples=300).standings
    }
    assert {each.model: each.strength for each in turned.standings} == pytest.approx(straight)


def test_siblings_widen_the_intervals() -> None:
    first, second, preferences, roots = star({"a": 0.3}, 400, 5, correlated=2.0, siblings=20)
    alone = rank_models(first, second, preferences, list(map(str, range(400))), resamples=1000).standings[0].standard_error
    together = rank_models(first, second, preferences, roots, resamples=1000).standings[0].standard_error
    assert together > 1.5 * alone


def test_the_standard_error_is_that_of_the_logit() -> None:
    # Of 400 prompts 240 won: the logit's error is 1 / sqrt(n p (1 - p)), a strength's half of it.
    preferences = [1.0] * 240 + [0.0] * 160
    ranking = rank_models(["a"] * 400, ["base"] * 400, preferences, list(map(str, range(400))), resamples=4000)
    assert ranking.standings[0].standard_error == pytest.approx(0.5 / math.sqrt(400 * 0.6 * 0.4), rel=0.05)


def test_intervals_cover() -> None:
    # 200 samples of 60 prompts: 95 % nominal; the binomial's 99.9 % range is 89 to 99 %.
    truth, inside = {"a": 0.7, "b": 0.0}, []
    mean = (0.7 + 0.0 + 0.0) / 3
    for seed in range(200):
        for each in rank_models(*star(truth, 60, seed), resamples=400).standings:
            assert each.low is not None
            assert each.high is not None
            inside.append(each.low <= truth.get(each.model, 0.0) - mean <= each.high)
    assert 0.89 < np.mean(inside) < 0.99


def test_rank_intervals_hold_the_rank_all_at_once() -> None:
    # Ranks of the true strengths; the intervals of all five models at once miss in at most 5 % of samples, here of 200.
    truth = {"a": 0.6, "b": 0.4, "c": 0.2, "d": -0.2}
    order = ["a", "b", "c", "base", "d"]
    missed = 0
    for seed in range(200):
        found = places(rank_models(*star(truth, 150, seed), resamples=400))
        missed += any(not found[name][0] <= rank <= found[name][1] for rank, name in enumerate(order, 1))
    assert missed / 200 < 0.10


def test_equal_models_are_rarely_told_apart() -> None:
    # At most 5 % of samples tell any of the ten pairs apart; of 200 up to 9 %. Unadjusted tests would tell some in a quarter.
    equal = dict.fromkeys("abcd", 0.0)
    told = [any(low > 1 or high < 5 for low, high in places(rank_models(*star(equal, 150, seed), resamples=400)).values())
            for seed in range(200)]  # fmt: skip
    assert np.mean(told) < 0.09


def test_a_model_against_itself_says_nothing() -> None:
    first, second, preferences, roots = star({"a": 0.8}, 40, 0)
    alone = rank_models(first, second, preferences, roots, resamples=300)
    more = rank_models([*first, "a"], [*second, "a"], [*preferences, 1.0], [*roots, roots[0]], resamples=300)
    assert (more.comparisons, more.standings) == (40, alone.standings)


def test_a_model_that_wins_everything_is_unbounded_above_and_said_to_be_so() -> None:
    first, second, preferences, roots = star({"fair": 0.2}, 40, 0)
    ranking = rank_models(
        first + ["best"] * 40, second + ["base"] * 40, preferences + [1.0] * 40, roots + roots, resamples=300
    )
    best = ranking.standings[0]
    assert (best.model, best.unbounded, best.high, ranking.penalised) == ("best", "above", None, True)
    assert best.low is not None
    assert best.rank_high == 1
    base = next(each for each in ranking.standings if each.model == "base")
    # 40 wins of 40, and half a win each way: log 81, not a huge number.
    assert best.strength - base.strength == pytest.approx(math.log(81))
    assert [each.model for each in strength_estimates(ranking, "j", "s", 0)] == [
        each.model for each in ranking.standings if each.unbounded is None
    ]


def test_models_that_never_met_are_refused() -> None:
    with pytest.raises(NotConnected, match=r"a, b \| c, d"):
        rank_models(["a", "c"], ["b", "d"], [1, 0], ["x", "y"])
    assert issubclass(NotConnected, StageError)


def test_one_prompt_is_too_few() -> None:
    with pytest.raises(TooFewPrompts):
        rank_models(["a", "b"], ["c", "c"], [1, 0], ["x", "x"])


@pytest.mark.parametrize(
    ("first", "preferences"), [(["a"], [1.5]), (["a", "b"], [0.5]), (["base"], [0.5])], ids=["range", "length", "one model"]
)
def test_columns_that_make_no_sense_are_refused(first: list[str], preferences: list[float]) -> None:
    with pytest.raises(ValueError, match=r"columns|ranking"):
        rank_models(first, ["base"], preferences, ["x"])


def test_strengths_as_estimates() -> None:
    ranking = rank_models(*star({"a": 0.5, "b": 0.1}, 50, 1), resamples=300, level=0.9)
    made = strength_estimates(ranking, "judge", "suite", 7)
    assert {(each.metric, each.unit, each.n, each.level, each.resamples, each.seed) for each in made} == {
        ("bradley-terry", "logits", 100, 0.9, 300, 7)
    }
    assert sum(each.value for each in made) == pytest.approx(0, abs=1e-9)
