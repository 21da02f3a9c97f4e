"""`seeds` in a plan: which stages it makes, what they build on, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from harness.errors import PlanError
from harness.plan import Graph
from harness.stages import Stages

SEEDS = ("base: {type: tiny}\n", "base: {type: tiny}\nseeds: [4, 7]\n")


def test_every_stage_is_there_once_per_seed_and_the_first_keeps_its_name(resolve: Callable[..., Graph]) -> None:
    stages = resolve(SEEDS).stages
    assert {name: (node.seed, node.copy_of) for name, node in stages.items() if name.startswith(("sft", "dpo"))} == {
        "sft": (4, None),
        "sft-seed-7": (7, "sft"),
        "dpo": (4, None),
        "dpo-seed-7": (7, "dpo"),
    }
    assert len(stages) == 10


def test_a_copy_builds_on_the_copies_of_its_seed_and_on_the_same_data(resolve: Callable[..., Graph]) -> None:
    graph = resolve(SEEDS)
    copy = graph.stages["ppo-seed-7"]
    assert copy.slots == {"init": "sft-seed-7", "reward": "reward-seed-7", "data": "toy.train"}
    assert [gate.model for gate in copy.requires] == ["reward-seed-7"]
    assert graph.stages["sft-seed-7"].slots["init"] == "base"
    assert graph.ancestors("ppo-seed-7") == {"sft-seed-7", "reward-seed-7"}


def test_a_judge_in_a_slot_uses_the_model_of_the_same_seed(resolve: Callable[..., Graph]) -> None:
    graph = resolve(SEEDS, ("init: sft, reward: reward,", "init: sft, reward: {judge: reward-model, model: reward},"))
    judge = graph.stages["ppo-seed-7"].judges["reward"]
    assert (dict(judge.models), judge.config.model) == ({"model": "reward-seed-7"}, "reward-seed-7")


def test_the_plans_own_names_stay_what_is_compared_and_who_judges(resolve: Callable[..., Graph]) -> None:
    graph = resolve(SEEDS)
    assert graph.models() == ["sft", "dpo", "ppo"]
    assert graph.judges["referee"].models == {"model": "referee"}
    assert graph.reward_models() == ["reward", "referee"]


def test_names_by_seed(resolve: Callable[..., Graph]) -> None:
    best = ("candidates: [dpo, ppo]\n", "candidates: [dpo, bo4]\n  best_of_n: {bo4: {model: sft, reward: reward, n: 4}}\n")
    graph = resolve(SEEDS, best, ('  - {model: ppo, metric: kl, suite: held, value: "<= 9"}\n', ""))
    assert [(seed, named("dpo"), named("bo4"), named("base")) for seed, named in graph.trainings()] == [
        (4, "dpo", "bo4", "base"),
        (7, "dpo-seed-7", "bo4-seed-7", "base"),
    ]
    assert (graph.best_of_n["bo4-seed-7"].model, graph.best_of_n["bo4-seed-7"].reward) == ("sft-seed-7", "reward-seed-7")


def test_without_seeds_the_plans_seed_trains(resolve: Callable[..., Graph]) -> None:
    graph = resolve(("base: {type: tiny}\n", "base: {type: tiny}\nseed: 9\n"))
    assert {graph.seed_of(node) for node in graph.stages.values()} == {9}
    assert [seed for seed, _ in graph.trainings()] == [None]


def test_a_sweep_is_repeated_with_every_seed(resolve: Callable[..., Graph]) -> None:
    swept = ("evaluate:\n", "sweep: {dpo.beta: [0.1, 0.2]}\nevaluate:\n")
    gates = ('  - {model: dpo, metric: kl, suite: held, value: "<= 5"}\n', "")
    stages = resolve(SEEDS, swept, gates).stages
    assert [name for name in stages if name.startswith("dpo")] == [
        "dpo-beta-0.1",
        "dpo-beta-0.1-seed-7",
        "dpo-beta-0.2",
        "dpo-beta-0.2-seed-7",
    ]


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ("[4, 4]", "seeds: 4 stands twice; the same seed trains the same model"),
        ("[-1]", "seeds.0: input should be greater than or equal to 0"),
        ("[one]", "seeds.0: input should be a valid integer"),
        ("3", "seeds: input should be a valid list"),
    ],
)
def test_what_is_wrong_with_seeds_is_a_problem_of_the_plan(resolve: Callable[..., Graph], seeds: str, text: str) -> None:
    with pytest.raises(PlanError) as caught:
        resolve((SEEDS[0], f"{SEEDS[0]}seeds: {seeds}\n"))
    assert text in str(caught.value)


def test_a_name_that_a_copy_would_take_is_a_problem(resolve: Callable[..., Graph]) -> None:
    with pytest.raises(PlanError) as caught:
        resolve(SEEDS, ("  dpo: {aligner", "  sft-seed-7: {aligner: sft, init: base, data: toy.train}\n  dpo: {aligner"))
    assert "stages.sft-seed-7: training with several seeds makes one of this name too" in str(caught.value)


@pytest.mark.parametrize(
    ("only", "wanted"),
    [("dpo", ["sft", "sft-seed-7", "dpo", "dpo-seed-7"]), ("dpo-seed-7", ["sft-seed-7", "dpo-seed-7"])],
)
def test_only_a_stage_is_that_stage_with_every_seed(resolve: Callable[..., Graph], only: str, wanted: list[str]) -> None:
    run = SimpleNamespace(graph=resolve(SEEDS), only=frozenset([only]))
    assert sorted(Stages(run)._wanted()) == sorted(wanted)  # type: ignore[arg-type]
