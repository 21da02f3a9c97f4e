"""What a reader of the numbers must know about a plan that is valid all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .graph import Graph, JudgeNode


def judge_warnings(graph: Graph) -> Iterator[str]:
    """One sentence for each judge that a candidate was trained against, or that learned from a candidate's pairs.

    What a judge itself says of its options comes first.
    """
    for judge in graph.judges.values():
        if text := judge.judge.component().caution(judge.config):
            yield f"judge {judge.name!r}: {text}"
        for candidate in graph.models():
            if any(_same(judge, each) for each in graph.trained_against(candidate)):
                yield (
                    f"judge {judge.name!r} is the reward that {candidate!r} was trained against: its verdict on "
                    f"{candidate!r} is circular. Judge with something that nothing trains against."
                )
        for model in dict.fromkeys(judge.models.values()):
            for candidate in graph.models():
                if candidate not in graph.stages:
                    continue
                if model in graph.ancestors(candidate):
                    yield (
                        f"judge {judge.name!r} uses {model!r}, and {candidate!r} was trained against it: its verdict on "
                        f"{candidate!r} is circular. Judge with a reward model that nothing trains against."
                    )
                elif shared := sorted(graph.own_data(model) & graph.trained_on(candidate)):
                    yield (
                        f"judge {judge.name!r} ({model!r}) learned from {', '.join(shared)}, which {candidate!r} trained "
                        "on too: they share their mistakes. Train the judge on a split of its own."
                    )


def _same(one: JudgeNode, other: JudgeNode) -> bool:
    """Whether two judges are one: other options, but for a model, leave its mistakes what they are."""
    if one.models or other.models:
        return False  # told of by its models
    return one.judge.name == other.judge.name and getattr(one.config, "model", None) == getattr(other.config, "model", None)
