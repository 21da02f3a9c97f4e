from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.health import independent_judges
from harness.plan import Graph, check, read_document
from harness.plugins import load_plugins


def test_a_judge_of_its_own_is_no_warning(resolve: Callable[..., Graph]) -> None:
    assert resolve().warnings == ()


def test_a_judge_that_a_candidate_was_trained_against_is_circular(resolve: Callable[..., Graph]) -> None:
    warnings = resolve(("model: referee}", "model: reward}")).warnings
    circular = [text for text in warnings if "circular" in text]
    assert len(circular) == 1
    assert "judge 'referee' uses 'reward', and 'ppo' was trained against it" in circular[0]


def test_a_judge_that_a_candidate_only_requires_something_of_is_not_circular(resolve: Callable[..., Graph]) -> None:
    gated = ("dpo: {aligner: dpo,", 'dpo: {aligner: dpo, requires: [{model: referee, metric: accuracy, value: ">= 0.6"}],')
    graph = resolve(gated)
    assert graph.warnings == ()
    assert (graph.upstream("dpo"), graph.ancestors("dpo")) == ({"sft"}, {"sft", "referee"})
    assert graph.trained_on("dpo") == {"toy.train"}
    assert "referee" in independent_judges(graph, "dpo", [])


def test_a_judge_that_shares_a_candidates_pairs_is_told(resolve: Callable[..., Graph]) -> None:
    (first, second, *_) = resolve(("data: toy.judge, valid", "data: toy.train, valid")).warnings
    assert "('referee') learned from toy.train, which 'sft' trained on too" in first
    assert "('referee') learned from toy.train, which 'dpo' trained on too" in second


def test_shared_validation_pairs_are_no_shared_training(resolve: Callable[..., Graph]) -> None:
    graph = resolve()
    assert graph.own_data("reward") == {"toy.train"}
    assert graph.trained_on("ppo") == {"toy.train"}
    assert graph.ancestors("ppo") == {"sft", "reward"}


def told(resolve: Callable[..., Graph], *replacements: tuple[str, str]) -> list[str]:
    return [text.partition(". ")[0] for text in resolve(*replacements).warnings if "unseen" in text]


def test_a_candidate_that_trains_on_the_prompts_of_a_suite_is_told(resolve: Callable[..., Graph]) -> None:
    assert told(
        resolve, ("dpo: {aligner: dpo, init: sft, data: toy.train", "dpo: {aligner: dpo, init: sft, data: toy.test")
    ) == ["'dpo' trains on toy.test, whose prompts the suite 'held' asks; its numbers there are not of unseen prompts"]


def test_so_is_a_stage_that_candidates_build_on(resolve: Callable[..., Graph]) -> None:
    assert told(
        resolve,
        ("reward: {aligner: reward, init: sft, data: toy.train", "reward: {aligner: reward, init: sft, data: toy.test"),
    ) == [
        "'reward' trains on toy.test, whose prompts the suite 'held' asks; the numbers of 'ppo', 'reward' there are not of "
        "unseen prompts"
    ]


def test_so_is_a_judge_that_learned_from_them(resolve: Callable[..., Graph]) -> None:
    assert told(resolve, ("data: toy.judge", "data: toy.test"), ("[win-rate, reward, kl, accuracy]", "[win-rate, kl]")) == [
        "'referee' trains on toy.test, whose prompts the suite 'held' asks; its numbers there are not of unseen prompts"
    ]


def test_a_stage_that_is_validated_on_what_it_trains_on_is_told(resolve: Callable[..., Graph]) -> None:
    (text,) = told(resolve, ("data: toy.judge, valid: toy.valid", "data: toy.judge, valid: toy.judge"))
    assert text.startswith("'referee' is validated on toy.judge, which it trains on")


def test_prompts_that_only_validate_are_unseen_in_training(resolve: Callable[..., Graph]) -> None:
    assert told(resolve, ("{data: toy.test}", "{data: toy.valid}")) == []


@pytest.mark.parametrize("plan", ["quickstart", "phase2", "phase2-cpu"])
def test_no_packaged_plan_trains_on_what_it_asks(plan: str) -> None:
    import harness_benchmarks

    path = Path(harness_benchmarks.__file__).with_name(f"{plan}.yaml")
    settings = [] if plan == "quickstart" else ["data.hh.path=Anthropic/hh-rlhf", "base={type: tiny}"]
    assert check(read_document(path, settings), load_plugins().registry()).warnings == ()
