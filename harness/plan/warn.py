"""What a reader of the numbers must know about a plan that is valid all the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..health import same_judge
from .gates import expected_estimates

if TYPE_CHECKING:
    from .graph import Graph


def judge_warnings(graph: Graph) -> Iterator[str]:
    """One sentence for each judge that a candidate was trained against, or that learned from a candidate's pairs.

    What a judge itself says of its options comes first.
    """
    rewards = [judge for stage in graph.stages.values() for judge in stage.judges.values()]
    for judge in (*rewards, *graph.judges.values()):
        if text := judge.judge.component().caution(judge.config):
            yield f"judge {judge.name!r}: {text}"
    for judge in graph.judges.values():
        for candidate in graph.models():
            if any(same_judge(judge, each) for each in graph.trained_against(candidate)):
                yield (
                    f"judge {judge.name!r} is the reward that {candidate!r} was trained against: its verdict on "
                    f"{candidate!r} is circular. Judge with something that nothing trains against."
                )
        for model in dict.fromkeys(judge.models.values()):
            for candidate in graph.models():
                if candidate not in graph.stages and candidate not in graph.best_of_n:
                    continue
                if model in graph.upstream(candidate):
                    best = graph.best_of_n.get(candidate)
                    chosen = "takes the answers that it chose" if best and best.reward == model else "builds on it"
                    how = chosen if best else "was trained against it"
                    yield (
                        f"judge {judge.name!r} uses {model!r}, and {candidate!r} {how}: its verdict on "
                        f"{candidate!r} is circular. Judge with a reward model that nothing trains against."
                    )
                elif shared := sorted(graph.own_data(model) & graph.trained_on(candidate)):
                    yield (
                        f"judge {judge.name!r} ({model!r}) learned from {', '.join(shared)}, which {candidate!r} trained "
                        "on too: they share their mistakes. Train the judge on a split of its own."
                    )


def data_warnings(graph: Graph) -> Iterator[str]:
    """One sentence for each suite whose prompts a stage trains on, and for each stage that is validated on what it trains on.

    Only the same data reference counts. Reward models are measured, too, and a judge's model gives verdicts.
    """
    suites, models = graph.plan.evaluate.suites if graph.plan.evaluate else {}, measured(graph)
    for stage in graph.stages:
        for name, suite in suites.items():
            if suite.data not in graph.own_data(stage):
                continue
            if spoilt := made_with(graph, stage, models[name]):
                whose = "its numbers" if spoilt == [stage] else f"the numbers of {', '.join(map(repr, spoilt))}"
                yield (
                    f"{stage!r} trains on {suite.data}, whose prompts the suite {name!r} asks; {whose} there are not of unseen "
                    "prompts. Ask those of a split that nothing trains on."
                )
        valid = graph.stages[stage].slots.get("valid")
        if valid in graph.own_data(stage):
            yield (
                f"{stage!r} is validated on {valid}, which it trains on: what is measured there is not of unseen pairs. "
                "Give `valid` a split of its own."
            )


def measured(graph: Graph) -> dict[str, list[str]]:
    """By suite the models that are measured on it, reward models too, and those that judge there."""
    judging = [model for judge in graph.judges.values() for model in judge.models.values()]
    expected = list(expected_estimates(graph))
    return {
        name: [*dict.fromkeys([*(each.model for each in expected if each.suite == name), *judging])]
        for name in (graph.plan.evaluate.suites if graph.plan.evaluate else ())
    }


def made_with(graph: Graph, stage: str, models: Iterable[str]) -> list[str]:
    """Those of `models` that are a stage's, or made from it."""
    return [each for each in models if stage == each or stage in graph.upstream(each)]
