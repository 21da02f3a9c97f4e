"""The best of n answers as a candidate: what it builds on, who may not judge it, and what it is estimated for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import PlanError
from harness.plan import Graph
from harness.plan.gates import expected_estimates

BEST = "best_of_n: {bo4: {model: sft, reward: reward, n: 4}}"
ADDED = ("candidates: [dpo, ppo]\n", f"candidates: [dpo, ppo, bo4]\n  {BEST}\n")


def test_it_builds_on_who_answers_and_who_chooses(resolve: Callable[..., Graph]) -> None:
    graph = resolve(ADDED)
    assert graph.models() == ["sft", "dpo", "ppo", "bo4"]
    assert graph.ancestors("bo4") == {"sft", "reward"}


def test_a_judge_that_is_the_chooser_is_circular_and_another_one_is_not(resolve: Callable[..., Graph]) -> None:
    assert [text for text in resolve(ADDED).warnings if "bo4" in text] == []
    circular = resolve(ADDED, ("model: referee}", "model: reward}")).warnings
    (told,) = [text for text in circular if "bo4" in text]
    assert told.startswith(
        "judge 'referee' uses 'reward', and 'bo4' takes the answers that it chose: its verdict on 'bo4' is circular"
    )


def test_a_judge_that_gave_the_choosers_data_shares_its_mistakes(resolve: Callable[..., Graph]) -> None:
    shared = resolve(ADDED, ("sft, data: toy.judge", "sft, data: toy.train")).warnings
    assert any("which 'bo4' trained on too" in text for text in shared)


def test_it_is_estimated_like_other_candidates_but_for_likelihood(resolve: Callable[..., Graph]) -> None:
    graph = resolve(ADDED, ("[win-rate, reward, kl, accuracy]", "[win-rate, reward, kl, accuracy, likelihood]"))
    found = {each.metric for each in expected_estimates(graph) if each.model == "bo4"}
    assert {"win-rate", "reward", "kl-bound"} <= found
    assert "chosen-loglik" not in found


@pytest.mark.parametrize(
    ("new", "text"),
    [
        ("best_of_n: {bo4: {model: sft, reward: sft, n: 4}}", "evaluate.best_of_n.bo4.reward: 'sft' is a model; this takes a reward-model"),
        ("best_of_n: {bo4: {model: reward, reward: reward, n: 4}}", "evaluate.best_of_n.bo4.model: 'reward' is a reward-model; this takes a model"),
        ("best_of_n: {bo4: {model: stf, reward: reward, n: 4}}", "evaluate.best_of_n.bo4.model: no stage named 'stf'; did you mean \"sft\"?"),
        ("best_of_n: {bo4: {model: sft, reward: reward, n: 1}}", "evaluate.best_of_n.bo4.n: input should be greater than or equal to 2"),
        ("best_of_n: {bo4: {model: sft, reward: reward, n: 4}, bo9: {model: sft, reward: reward, n: 9}}", "evaluate.best_of_n.bo9: is no candidate"),
        ("best_of_n: {bo4: {model: sft, reward: reward, n: 4}, dpo: {model: sft, reward: reward, n: 9}}", "evaluate.best_of_n.dpo: 'dpo' is a stage too"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_is_a_problem_of_the_plan(resolve: Callable[..., Graph], new: str, text: str) -> None:
    with pytest.raises(PlanError) as caught:
        resolve((ADDED[0], ADDED[1].replace(BEST, new)))
    assert text in str(caught.value)
