"""Conversations that stand in two data sets of a plan which should share none, found by what is in them.

Splits of one data set share none; separate files for training and evaluation may. Conversations are one if their first human
turns are, as in splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from .plan.warn import made_with, measured
from .records import root_of

if TYPE_CHECKING:
    from .data import DataSets
    from .evaluation.suites import LoadedSuite
    from .plan import Graph


def overlap_warnings(graph: Graph, data: DataSets, suites: Mapping[str, LoadedSuite]) -> Iterator[str]:
    """One sentence for each suite that asks what a stage trains on, and for each judge that learned what a candidate did.

    Reads all data that stages train on. Raises DataError.
    """
    stages = [name for name, node in graph.stages.items() if node.copy_of is None]
    roots = {ref: {row.root for row in data.get(ref).rows} for name in stages for ref in graph.own_data(name)}
    yield from _trained_and_asked(graph, stages, roots, suites)
    yield from _learned_by_both(graph, roots)


def _trained_and_asked(
    graph: Graph, stages: list[str], roots: Mapping[str, set[str]], suites: Mapping[str, LoadedSuite]
) -> Iterator[str]:
    models = measured(graph)
    for name, suite in suites.items():
        asked = [row.root or root_of(row.messages()) for row in suite.rows]
        for stage in stages:
            spoilt = made_with(graph, stage, models[name])
            for reference in sorted(graph.own_data(stage)) if spoilt else ():
                shared = sum(root in roots[reference] for root in asked)
                if shared and not _of_one(reference, suite.drawn_from):
                    yield (
                        f"{stage!r} trains on {reference}, where {shared:,} of the {len(asked):,} prompts of the suite {name!r} "
                        f"begin conversations, too; the numbers of {', '.join(map(repr, spoilt))} there are not of unseen "
                        "prompts alone. Take these out of one of the two."
                    )


def _learned_by_both(graph: Graph, roots: Mapping[str, set[str]]) -> Iterator[str]:
    for judge in graph.judges.values():
        for model in dict.fromkeys(judge.models.values()):
            for candidate in graph.models():
                pairs = [(mine, other) for mine in graph.own_data(model) for other in graph.trained_on(candidate)]
                for mine, other in sorted(pairs) if model not in graph.upstream(candidate) else ():
                    shared = len(roots[mine] & roots[other])
                    if shared and not _of_one(mine, other):
                        yield (
                            f"judge {judge.name!r} ({model!r}) learned from {mine}, of whose conversations {shared:,} are in "
                            f"{other}, which {candidate!r} trained on: they share their mistakes. Take these out of one of the "
                            "two."
                        )


def _of_one(reference: str, other: str | None) -> bool:
    """Whether two references are to splits of one data set, of which the plan's own warnings know."""
    return other is not None and reference.partition(".")[0] == other.partition(".")[0]
