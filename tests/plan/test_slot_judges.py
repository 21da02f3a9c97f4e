"""A judge that fills a slot of a stage: what it makes of the graph, of keys and records, and of what is said about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.components import Compute
from harness.data import DataSets
from harness.errors import PlanError
from harness.lock import lock_document, stage_identity, stage_inputs
from harness.models import write_model_card
from harness.plan import Graph, check, parse_document
from harness.plan.schema import plan_schema
from harness.plugins import Entry, Plugin, Registry, load_plugins

COMPUTE = Compute("cpu", "fp32", 1)
TRUTH = ("reward: reward, data", "reward: {judge: toy-truth}, data")
REFEREE = ("reward: reward, data", "reward: {judge: reward-model, model: referee, max_length: 99}, data")
UNGATED = (',\n        requires: [{model: reward, metric: accuracy, value: ">= 0.6"}]}', "}")


def inputs(graph: Graph, **keys: str) -> dict[str, Any]:
    """What fills the slots of `ppo`, with models of these keys."""
    stages = {"sft": "model", "reward": "reward-model", "referee": "reward-model"}
    artifacts = {name: harness.Artifact(name, kind, Path(name), keys.get(name, name)) for name, kind in stages.items()}
    return stage_inputs(graph.stages["ppo"], artifacts, DataSets(graph))


def identity(graph: Graph, **keys: str) -> dict[str, Any]:
    return stage_identity(graph, graph.stages["ppo"], inputs(graph, **keys), COMPUTE)


def test_a_judge_without_models_adds_no_dependency(resolve: Callable[..., Graph]) -> None:
    graph = resolve(TRUTH, UNGATED)
    ppo = graph.stages["ppo"]
    assert (ppo.slots, list(ppo.judges)) == ({"init": "sft", "data": "toy.train"}, ["reward"])
    assert graph.ancestors("ppo") == {"sft"}


def test_a_judges_model_is_what_the_stage_builds_on(resolve: Callable[..., Graph]) -> None:
    graph = resolve(REFEREE, UNGATED)
    assert graph.ancestors("ppo") == {"sft", "referee"}
    assert list(graph.stages).index("referee") < list(graph.stages).index("ppo")
    assert graph.trained_on("ppo") == {"toy.train", "toy.judge"}
    with pytest.raises(PlanError, match="stages build on each other in a circle"):
        resolve(REFEREE, UNGATED, ("referee: {aligner: reward, init: sft", "referee: {aligner: reward, init: ppo"))


def test_the_judge_that_fills_a_slot_is_circular_as_a_judge(resolve: Callable[..., Graph]) -> None:
    warnings = resolve(TRUTH).warnings
    assert [text for text in warnings if "'truth'" in text] == [
        "judge 'truth' is the reward that 'ppo' was trained against: its verdict on 'ppo' is circular. Judge with something "
        "that nothing trains against."
    ]
    downstream = resolve(TRUTH, ("dpo: {aligner: dpo, init: sft", "dpo: {aligner: dpo, init: ppo")).warnings
    assert {name for name in ("dpo", "ppo") if any(f"reward that '{name}' was" in text for text in downstream)} == {
        "dpo",
        "ppo",
    }


def test_a_model_that_judges_and_rewards_is_circular_and_another_one_is_not(resolve: Callable[..., Graph]) -> None:
    warnings = resolve(REFEREE).warnings
    assert any("judge 'referee' uses 'referee', and 'ppo' was trained against it" in text for text in warnings)
    other = (REFEREE[0], REFEREE[1].replace("model: referee", "model: reward"))
    assert resolve(other).warnings == ()


def test_a_sweep_of_the_judges_model_sweeps_the_stage(resolve: Callable[..., Graph]) -> None:
    graph = resolve(REFEREE, UNGATED, ("base: {type", "sweep: {referee.learning_rate: [1, 2]}\nbase: {type"), (
        "referee: {judge: reward-model, model: referee}", "referee: {judge: reward-model, model: reward}"
    ), ("\n  - {model: ppo, metric: kl, suite: held, value: \"<= 9\"}", ""))  # fmt: skip
    for value in ("1", "2"):
        judge = graph.stages[f"ppo-learning_rate-{value}"].judges["reward"]
        assert judge.models == {"model": f"referee-learning_rate-{value}"}


class Verbose(harness.Judge):
    """Prefers the candidate."""

    name = "verbose"


def test_a_judge_that_only_compares_is_told_with_those_that_score(resolve: Callable[..., Graph]) -> None:
    known = load_plugins().registry()
    extra = {("judge", "verbose"): Entry("judge", "verbose", Verbose, Plugin("mine", "mine", "1", __name__))}
    registry = Registry({**known.entries, **extra})
    text = resolve().document.text.replace(TRUTH[0], TRUTH[1].replace("toy-truth", "verbose"))
    with pytest.raises(PlanError) as caught:
        check(parse_document(text, "plan.yaml"), registry)
    (problem,) = caught.value.problems
    assert problem.path == "stages.ppo.reward.judge"
    assert problem.line == 6
    assert (
        problem.text
        == "'verbose' compares answers and scores none; judges that do are reward-model, rubric, strongreject, toy-truth"
    )


def test_a_key_holds_the_judge_its_options_and_its_models(resolve: Callable[..., Graph]) -> None:
    graph = resolve(REFEREE)
    first = identity(graph)
    assert first["inputs"]["reward"]["judge"]["name"] == "reward-model"
    assert len(first["inputs"]["reward"]["judge"]["source"]) == 64
    assert first["inputs"]["reward"]["options"] == {"model": "referee", "max_length": 99, "temperature": None}
    assert first["inputs"]["reward"]["models"] == {"model": "referee"}
    assert identity(graph) == first
    assert identity(graph, reward="other") == first
    assert identity(graph, referee="other") != first
    assert identity(resolve((REFEREE[0], REFEREE[1].replace("99", "98")))) != first
    assert identity(resolve(TRUTH)) != first


def test_the_stage_gets_a_scorer_with_the_judges_models(resolve: Callable[..., Graph]) -> None:
    scorer = inputs(resolve(REFEREE))["reward"]
    assert isinstance(scorer, harness.Scorer)
    assert (scorer.name, scorer.config.max_length, scorer.models["model"].name) == ("reward-model", 99, "referee")
    truth = inputs(resolve(TRUTH))["reward"]
    prompt = (harness.Message(role="user", content="Please tell me how to bake bread."),)
    assert truth.score([prompt], ["No."], COMPUTE) == [pytest.approx(-10)]


def test_the_lock_and_the_model_card_name_it(resolve: Callable[..., Graph], tmp_path: Path) -> None:
    graph = resolve(REFEREE)
    lock = lock_document(graph, load_plugins().registry(), DataSets(graph), COMPUTE)
    stage = lock["stages"]["ppo"]
    assert stage["slots"] == {"init": "sft", "data": "toy.train", "reward.model": "referee"}
    assert stage["judges"]["reward"] | {"component": None} == {
        "judge": "reward-model", "component": None, "models": {"model": "referee"},
        "options": {"model": "referee", "max_length": 99, "temperature": None},
    }  # fmt: skip
    assert lock["stages"]["dpo"]["judges"] == {}
    write_model_card(graph, graph.stages["ppo"], inputs(graph, referee="0123456789abcdef"), tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert (
        "- reward: judge reward-model(model=referee), model `referee`, max_length `99`, model has key 0123456789ab" in card
    )


def test_the_schema_takes_a_name_or_a_judge_that_scores(resolve: Callable[..., Graph]) -> None:
    stages = plan_schema(load_plugins().registry())["properties"]["stages"]["additionalProperties"]["allOf"]
    (ppo,) = [each["then"] for each in stages if each["then"]["title"] == "ppo"]
    reward = ppo["properties"]["reward"]
    assert reward["else"]["type"] == "string"
    assert reward["then"]["properties"]["judge"]["enum"] == ["reward-model", "rubric", "strongreject", "toy-truth"]
    assert ppo["properties"]["init"]["type"] == "string"


def test_what_fills_the_slots_is_told_in_words(resolve: Callable[..., Graph]) -> None:
    assert resolve(REFEREE).stages["ppo"].fillings()["reward"] == "judge reward-model(model=referee)"
    assert resolve(TRUTH).stages["ppo"].fillings()["reward"] == "judge toy-truth"
