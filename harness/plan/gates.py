"""Gates: what they can match is known before anything runs, as far as the plan tells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import Problem
from ..records import Estimate
from .graph import Graph
from .model import Gate


@dataclass(frozen=True)
class Expected:
    """The identity of an estimate that a plan will make."""

    model: str
    metric: str
    judge: str | None
    suite: str
    baseline: str | None


def expected_estimates(graph: Graph) -> Iterator[Expected]:
    """The estimates of the plan's own metrics; those that only turn up in the data (per category, say) are not among them."""
    evaluate = graph.plan.evaluate
    if evaluate is None:
        return
    for node in graph.metrics:
        scope = node.metric.component.scope  # type: ignore[attr-defined]
        judges: Iterable[str | None] = [None] if scope in {"samples", "pairs"} else list(graph.judges)
        models = graph.reward_models() if scope == "pairs" else graph.models()
        for measure in node.measures:
            for judge in judges:
                for model in models:
                    for suite in evaluate.suites:
                        if scope == "pairs":
                            yield Expected(model, measure.name, judge, suite, measure.against)
                            continue
                        if scope != "judgements":
                            yield Expected(model, measure.name, judge, suite, None)
                        if model != evaluate.baseline and (scope == "judgements" or measure.compare):
                            yield Expected(model, measure.name, judge, suite, evaluate.baseline)


def matching(gate: Gate, estimates: Sequence[Expected | Estimate]) -> list[Expected | Estimate]:
    """The estimates that a gate names. Without a `baseline` it means the level, where there is one beside a comparison."""
    found = [
        each
        for each in estimates
        if each.model == gate.model
        and each.metric == gate.metric
        and (gate.judge is None or each.judge == gate.judge)
        and (gate.suite is None or each.suite == gate.suite)
        and (gate.baseline is None or each.baseline == gate.baseline)
    ]
    if gate.baseline is None and any(each.baseline is None for each in found):
        return [each for each in found if each.baseline is None]
    return found


def check_gates(graph: Graph) -> list[Problem]:
    """Gates of the plan that match no estimate, or more than one."""
    expected = list(expected_estimates(graph))
    problems = []
    for index, gate in enumerate(graph.plan.require):
        found = matching(gate, expected)
        if len(found) == 1:
            continue
        if found:
            text = "matches several estimates: " + "; ".join(map(_described, found)) + ". Name the judge, the suite, or both"
        else:
            near = [each for each in expected if gate.metric == each.metric] or [e for e in expected if gate.model == e.model]
            options = "; ".join(dict.fromkeys(map(_described, near[:6])))
            text = f"matches no estimate of this plan{f'. Near it: {options}' if options else ''}"
        problems.append(graph.document.problem(("require", index), text))
    return problems


def _described(each: Expected | Estimate) -> str:
    return ", ".join(f"{key} {value}" for key in ("model", "metric", "judge", "suite") if (value := getattr(each, key)))
