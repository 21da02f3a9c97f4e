"""Slices of a suite: which prompts belong to which, and estimates of each with p-values that count how many there are."""

from __future__ import annotations

import pytest

from harness import Measure, Message, Observation, SuiteRow
from harness.evaluation.slices import FEWEST, FEWEST_OTHER, slice_estimates, slices
from harness.plan.model import Bootstrap

BOOTSTRAP = Bootstrap(resamples=200)
RATE = Measure(name="refused", unit="share of prompts")
WIN = Measure(name="win-rate", unit="share of prompts", compare=False, null=0.5)


def row(name: str, prompt: str = "x", category: str | None = None, checks: tuple[str, ...] = ()) -> SuiteRow:
    found = [{"kind": kind} for kind in checks]
    return SuiteRow.model_validate({"id": name, "prompt": prompt, "category": category, "checks": found})


def chat(name: str, *turns: str) -> SuiteRow:
    roles = ("user", "assistant") * 5
    messages = tuple(Message(role=role, content=text) for role, text in zip(roles, turns, strict=False))  # type: ignore[arg-type]
    return SuiteRow(id=name, prompt=messages)


def seen(prompt_id: str, model: str, metric: str, value: float, other: float | None = None) -> Observation:
    judge = "j" if metric == "win-rate" else None
    return Observation(
        prompt_id=prompt_id, root=prompt_id, suite="s", model=model, metric=metric, judge=judge, value=value, baseline_value=other
    )  # fmt: skip


def test_categories_and_checks_are_slices_by_name() -> None:
    rows = [
        row("a", category="tea", checks=("words", "case")),
        row("b", category="art", checks=("words", "words")),
        row("c"),
    ]
    assert slices(rows, "category") == {"art": {"b"}, "tea": {"a"}}
    assert slices(rows, "checks") == {"case": {"a"}, "words": {"a", "b"}}


def test_turns_are_the_users() -> None:
    rows = [row("one"), chat("two", "a", "b", "c"), chat("three", *"abcde"), chat("four", *"abcdefg")]
    assert slices(rows, "turns") == {"1 turn": {"one"}, "2 turns": {"two"}, "3 turns or more": {"three", "four"}}
    assert list(slices(rows[::-1], "turns")) == ["1 turn", "2 turns", "3 turns or more"]


def test_lengths_part_a_suite_into_thirds_shortest_first() -> None:
    rows = [row(str(n), "x" * n) for n in (9, 30, 31, 50, 100, 200)]
    # Of six in order the third begins the second third, and the fifth the last.
    assert list(slices(rows, "length").items()) == [
        ("under 31 characters", {"9", "30"}),
        ("31 to 99 characters", {"31", "50"}),
        ("100 characters or more", {"100", "200"}),
    ]
    # A conversation's turns count together: 20 + 20 + 60 characters.
    assert "c" in slices([*rows[:5], chat("c", "x" * 20, "x" * 20, "x" * 60)], "length")["100 characters or more"]


@pytest.mark.parametrize("dimension", ["category", "length", "turns", "checks"])
def test_a_suite_that_does_not_vary_has_no_slices(dimension: str) -> None:
    assert (
        slices([row("a", category="tea", checks=("words",)), row("b", category="tea", checks=("words",))], dimension) == {}
    )
    assert slices([], dimension) == {}


def test_each_slice_has_its_level_and_its_difference_and_a_small_one_less() -> None:
    sizes = {"art": FEWEST_OTHER, "tea": FEWEST_OTHER - 1, "zoo": FEWEST - 1}
    rows = [row(f"{category}{n}", category=category) for category, size in sizes.items() for n in range(size)]
    observations = [seen(r.id, "old", metric, 0.0) for r in rows for metric in ("refused", "length")]
    observations += [seen(r.id, "new", "refused", float(r.category == "art"), 0.0) for r in rows]
    observations += [seen(r.id, "new", "length", float(n), 0.0) for n, r in enumerate(rows)]
    measures = {"refused": (RATE, "samples"), "length": (Measure(name="length", unit="characters"), "samples")}
    made = slice_estimates(observations, {"s": rows}, ["category"], measures, "old", BOOTSTRAP, 0)
    # Rates and their differences have intervals for few prompts; those of other means need more, and four are too few for any.
    assert {(each.slice, each.metric, each.model, each.baseline): each.value for each in made} == {
        ("art", "refused", "old", None): 0.0, ("art", "refused", "new", None): 1.0, ("art", "refused", "new", "old"): 1.0,
        ("tea", "refused", "old", None): 0.0, ("tea", "refused", "new", None): 0.0, ("tea", "refused", "new", "old"): 0.0,
        # 0 to 9 have the mean 4.5
        ("art", "length", "old", None): 0.0, ("art", "length", "new", None): 4.5, ("art", "length", "new", "old"): 4.5,
    }  # fmt: skip
    assert {(each.dimension, each.slice, each.n, each.suite) for each in made} == {
        ("category", "art", 10, "s"), ("category", "tea", 9, "s"),
    }  # fmt: skip


def test_a_rate_over_training_seeds_needs_no_more_groups_than_one_of_a_single_training() -> None:
    rows = [row(f"a{n}", category="a") for n in range(FEWEST_OTHER - 1)] + [
        row(f"b{n}", category="b") for n in range(FEWEST - 1)
    ]
    won = [seen(r.id, "new", "win-rate", float(n % 3 > 0)) for n, r in enumerate(rows)]
    observations = [each.model_copy(update={"training_seed": seed}) for seed in (1, 2) for each in won]
    made = slice_estimates(observations, {"s": rows}, ["category"], {"win-rate": (WIN, "judgements")}, "old", BOOTSTRAP, 0)
    assert [(each.slice, each.clusters, each.method) for each in made] == [("a", 9, "crossed-wilson")]


def test_p_values_are_adjusted_over_all_slices_of_a_metric() -> None:
    # Ten wins of ten: p = 2 * 2**-10 = 0.001953125. Twelve of thirteen: 2 * (13 + 1) / 2**13 = 0.00341796875. Of the two in
    # order, m p / j: 2 * 0.001953125 / 1 = 0.00390625, and 2 * 0.00341796875 / 2, which is less and holds for both.
    rows = [row(f"a{n}", category="a") for n in range(10)] + [row(f"b{n}", category="b") for n in range(13)]
    measures = {"win-rate": (WIN, "judgements"), "refused": (RATE, "samples")}
    observations = [seen(r.id, "new", "win-rate", float(r.id != "b0")) for r in rows]
    observations += [seen(r.id, "old", "refused", 1.0) for r in rows]
    made = slice_estimates(observations, {"s": rows}, ["category"], measures, "old", BOOTSTRAP, 0)
    found = {(each.metric, each.slice): (each.p_value, each.p_adjusted) for each in made}
    assert found == {
        ("win-rate", "a"): (pytest.approx(0.001953125), pytest.approx(0.00341796875)),
        ("win-rate", "b"): (pytest.approx(0.00341796875), pytest.approx(0.00341796875)),
        ("refused", "a"): (None, None),
        ("refused", "b"): (None, None),
    }


def test_reward_models_have_no_slices() -> None:
    rows = [row(f"a{n}", category="ab"[n % 2]) for n in range(20)]
    observations = [seen(r.id, "reward", "refused", 1.0) for r in rows]
    assert slice_estimates(observations, {"s": rows}, ["category"], {"refused": (RATE, "pairs")}, "old", BOOTSTRAP, 0) == []
