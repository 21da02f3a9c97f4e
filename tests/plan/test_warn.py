from __future__ import annotations

from collections.abc import Callable

from harness.plan import Graph


def test_a_judge_of_its_own_is_no_warning(resolve: Callable[..., Graph]) -> None:
    assert resolve().warnings == ()


def test_a_judge_that_a_candidate_was_trained_against_is_circular(resolve: Callable[..., Graph]) -> None:
    warnings = resolve(("model: referee}", "model: reward}")).warnings
    circular = [text for text in warnings if "circular" in text]
    assert len(circular) == 1
    assert "judge 'referee' uses 'reward', and 'ppo' was trained against it" in circular[0]


def test_a_judge_that_shares_a_candidates_pairs_is_told(resolve: Callable[..., Graph]) -> None:
    (first, second, *_) = resolve(("data: toy.judge, valid", "data: toy.train, valid")).warnings
    assert "('referee') learned from toy.train, which 'sft' trained on too" in first
    assert "('referee') learned from toy.train, which 'dpo' trained on too" in second


def test_shared_validation_pairs_are_no_shared_training(resolve: Callable[..., Graph]) -> None:
    graph = resolve()
    assert graph.own_data("reward") == {"toy.train"}
    assert graph.trained_on("ppo") == {"toy.train"}
    assert graph.ancestors("ppo") == {"sft", "reward"}
