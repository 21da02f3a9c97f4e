"""Document → Graph: every problem of a plan at once, each with its line, its path, and a suggestion."""

from __future__ import annotations

import contextlib
import copy
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from ..errors import PlanError
from .base import base_problem
from .evaluation import check_evaluation, check_sampling, resolve_harm, resolve_judges, resolve_metrics, unfitted
from .gates import check_gate, expected_estimates
from .graph import BASE, DataNode, Graph, JudgeNode, MetricNode
from .labels import check_labels
from .model import NAME, Evaluate, Gate, Name, Plan, Suite
from .problems import Problems, location
from .references import References
from .seeds import best_of_n_per_seed, check_seeds, per_seed
from .stages import resolve_stages
from .sweep import expand_sweep
from .warn import data_warnings, judge_warnings

if TYPE_CHECKING:
    from ..plugins import Registry
    from .document import Document


BEFORE_GATES = ("data", "evaluate", "sweep")


def check(document: Document, registry: Registry) -> Graph:
    """Resolve a plan. Raises PlanError with all its problems."""
    problems = Problems(document, registry)
    problems.found += expand_sweep(document, registry)
    before = len(problems.found)
    valid = problems.validated(Plan, document.values, ())
    whole = valid is not None or all(each.path.split(".")[0] == "require" for each in problems.found[before:])
    plan = valid or _salvaged(document.values)
    if plan is None:
        raise PlanError(problems.found)
    base = document.values.get("base")
    if isinstance(base, str) and (text := base_problem(base, document.folder, plan.trust_remote_code)):
        problems.add(("base",), text)
    data = _resolve_data(plan, problems)
    references = References(problems, plan, data)
    stages = resolve_stages(plan, problems, references)
    judges: dict[str, JudgeNode] = {}
    harm: dict[str, JudgeNode] = {}
    metrics: tuple[MetricNode, ...] = ()
    if plan.evaluate is not None:
        judges = resolve_judges(plan.evaluate, problems, references)
        harm = resolve_harm(plan.evaluate, problems, references)
        metrics = resolve_metrics(plan.evaluate, problems)
        evaluate = plan.evaluate
        if "candidates" not in evaluate.model_fields_set:
            evaluate = evaluate.model_copy(update={"candidates": [*evaluate.best_of_n]})
        check_evaluation(evaluate, metrics, problems, references)
    elif document.values.get("require") and document.values.get("evaluate") is None:
        problems.add(("require",), "there is nothing to require without `evaluate`")
    best_of_n = plan.evaluate.best_of_n if plan.evaluate else {}
    graph = Graph(plan, document, data, stages, judges, metrics, harm=harm, best_of_n=best_of_n)
    check_seeds(stages, best_of_n, plan.seeds, problems)
    if plan.evaluate is not None:
        if plan.evaluate.model_fields_set >= {"baseline", "candidates", "suites"}:
            check_labels(plan.evaluate, problems, graph.comparisons())
        check_sampling(plan.evaluate, graph, problems)
    for name, judge in judges.items():
        if judge.config is not None and (text := unfitted(graph, judge)):
            problems.add(("evaluate", "judges", name, "temperature"), text)
    if whole and len(stages) == len(plan.stages) and not any(each.path.startswith(BEFORE_GATES) for each in problems.found):
        expected = list(expected_estimates(graph))
        for index, gate in _gates(document.values.get("require")):
            check_gate(gate, expected, plan.evaluate.baseline if plan.evaluate else None, ("require", index), problems)
    _check_files(data, problems)
    if problems.found:
        raise PlanError(problems.found)
    return replace(
        graph,
        warnings=(*judge_warnings(graph), *data_warnings(graph)),
        stages=per_seed(stages, plan.seeds),
        best_of_n=best_of_n_per_seed(best_of_n, stages, plan.seeds),
    )


class _Remains(Evaluate):
    """What is right of an evaluation: its judges and metrics can be checked where its candidates are no list."""

    baseline: Name = BASE
    candidates: list[Name] = Field(default_factory=list)
    suites: dict[Name, Suite] = Field(default_factory=dict)
    metrics: list[str] = Field(default_factory=list)


class _Salvaged(Plan):
    """What is right of a plan."""

    evaluate: _Remains | None = None


def _gates(values: Any) -> Iterator[tuple[int, Gate]]:
    """The gates that are right, each with its place among all."""
    for index, value in enumerate(values if isinstance(values, list) else ()):
        with contextlib.suppress(ValidationError):
            yield index, Gate.model_validate(value)


def _salvaged(values: Mapping[str, Any]) -> Plan | None:
    """What is right of a plan that is not valid, so that the problems of its parts are told with the others."""
    rest: dict[str, Any] = {"name": "plan", "base": BASE, **copy.deepcopy(values)}
    for _ in range(100):
        try:
            return _Salvaged.model_validate(rest)
        except ValidationError as error:
            first = error.errors()[0]
            place = location(first, rest)
            if first["type"] in {"missing", "too_short"}:
                place = place[:-1]  # what holds the option goes with it
            # A list goes whole: its other items must keep their places.
            if not _remove(rest, list(itertools.takewhile(lambda key: isinstance(key, str), place))):
                return None
    return None


def _remove(values: Any, place: Sequence[str | int]) -> bool:
    """Take a value out of nested mappings and lists; False if there is no such place."""
    if not place:
        return False
    for key in place[:-1]:
        values = values[key]
    del values[place[-1]]
    return True


def _resolve_data(plan: Plan, problems: Problems) -> dict[str, DataNode]:
    """Every entry of the plan's data whose source is known."""
    nodes = {}
    for name, values in plan.data.items():
        path = ("data", name)
        if name == BASE or "." in name:
            problems.add(
                path, "a data set's name has no dot and is not `base`, so that NAME.SPLIT means one thing; rename it"
            )
        entry = problems.component("source", values, path)
        options = {key: value for key, value in values.items() if key != "source"}
        config = problems.validated(entry.component.Config, options, path) if entry else None
        if entry is None or config is None:
            continue
        for split, share in config.split.items():
            if not re.fullmatch(NAME, split):
                problems.add((*path, "split", split), f"{split!r} is no name for a split")
            if share <= 0:
                problems.add((*path, "split", split), f"a share is above 0, not {share:g}")
        if sum(config.split.values()) > 1 + 1e-9:
            problems.add((*path, "split"), f"shares add up to {sum(config.split.values()):g}, and may be 1 at most")
        nodes[name] = DataNode(name, entry, config)
    return nodes


def _check_files(data: Mapping[str, DataNode], problems: Problems) -> None:
    """Note every source that says by itself that its rows cannot be read."""
    for name, node in data.items():
        if text := node.source.component().missing(node.config, problems.document.folder):
            option = ["path"] if "path" in type(node.config).model_fields else []
            problems.add(("data", name, *option), text)
