"""Gates: what they can match is known before anything runs, as far as the plan tells."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from .. import audit
from ..errors import hint
from ..judges import ScoringJudge
from .model import split_bound
from .problems import Problems, Where

if TYPE_CHECKING:
    from ..metrics import Measure
    from ..records import Estimate
    from .graph import Graph, MetricNode
    from .model import Evaluate, Gate

E = TypeVar("E", "Expected", "Estimate")


@dataclass(frozen=True)
class Expected:
    """The identity of an estimate that a plan will make, and the least and the greatest value it can have, where there are."""

    model: str
    metric: str
    judge: str | None
    suite: str
    baseline: str | None
    span: tuple[float, float] | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls, measure: Measure, model: str, judge: str | None, suite: str, baseline: str | None, difference: bool
    ) -> Expected:
        """One of a measure. A share is from 0 to 1, a difference of shares from -1 to 1."""
        share = measure.unit == "probability" or measure.unit.startswith("share")
        low = -1.0 if difference or measure.null == 0 else 0.0
        return cls(model, measure.name, judge, suite, baseline, (low, 1.0) if share else None)


def expected_estimates(graph: Graph) -> Iterator[Expected]:
    """The estimates that a plan will make."""
    evaluate = graph.plan.evaluate
    if evaluate is None:
        return
    for node in graph.metrics:
        yield from _PER_SCOPE[node.metric.component.scope](graph, evaluate, node)
    for each in _audits(graph, evaluate):
        yield each if each.metric in _KAPPAS else replace(each, span=(0.0, 1.0))
    scorers = {name: node for name, node in graph.judges.items() if issubclass(node.judge.component, ScoringJudge)}
    truths = [name for name, node in scorers.items() if not node.models]
    others = dict.fromkeys([*(name for name in scorers if name not in truths), *graph.reward_models()])
    for scorer, truth, suite in itertools.product(others, truths, evaluate.suites):
        yield Expected(scorer, "spearman", truth, suite, None)


def _audits(graph: Graph, evaluate: Evaluate) -> Iterator[Expected]:
    """What is measured of the judges. The canaries are on the first suite; only a judge that reads orders has any."""
    first, human = next(iter(evaluate.suites)), evaluate.human is not None
    for name, node in graph.judges.items():
        scores = issubclass(node.judge.component, ScoringJudge)
        ordered = () if scores else ("swap-flip", "first-preferred")
        for suite in evaluate.suites:
            for metric in (*audit.MISSING, "longer-preferred", *ordered, *(audit.HUMAN if human else ())):
                yield Expected(name, metric, name, suite, None)
        for canary in audit.CANARIES:
            if canary.metric.startswith("canary-"):
                yield Expected(name, canary.metric, name, first, None)
        if len({family for model in graph.models() if (family := graph.family(model))}) > 1:
            yield from (Expected(name, "own-preferred", name, suite, None) for suite in evaluate.suites)
    for suite in evaluate.suites:
        for one, other in itertools.combinations(graph.judges, 2):
            yield from (Expected(one, metric, other, suite, None) for metric in audit.AGREEMENT)
        for judge, (model, baseline) in itertools.product(graph.judges, graph.comparisons() if human else ()):
            yield Expected(model, audit.CORRECTED, judge, suite, baseline)


def _samples(
    graph: Graph,
    evaluate: Evaluate,
    node: MetricNode,
    judges: Sequence[str | None] = (None,),
    suites: Collection[str] | None = None,
) -> Iterator[Expected]:
    suites = evaluate.suites if suites is None else suites
    for measure, judge, model, suite in itertools.product(node.measures, judges, graph.models(), suites):
        yield Expected.of(measure, model, judge, suite, None, difference=False)
        if measure.compare and model != evaluate.baseline:
            yield Expected.of(measure, model, judge, suite, evaluate.baseline, difference=True)


def _scores(graph: Graph, evaluate: Evaluate, node: MetricNode) -> Iterator[Expected]:
    judges = [name for name, judge in graph.judges.items() if issubclass(judge.judge.component, ScoringJudge)]
    yield from _samples(graph, evaluate, node, judges)
    suite = next(iter(evaluate.suites))
    for measure, (stage, reward) in itertools.product(node.measures, graph.watched().items()):
        for model in (evaluate.baseline, stage):
            yield Expected.of(measure, model, reward, suite, None, difference=False)
        if measure.compare:
            yield Expected.of(measure, stage, reward, suite, evaluate.baseline, difference=True)


def _harm(graph: Graph, evaluate: Evaluate, node: MetricNode) -> Iterator[Expected]:
    return _samples(graph, evaluate, node, list(graph.harm))


def _judgements(graph: Graph, evaluate: Evaluate, node: MetricNode) -> Iterator[Expected]:
    for measure, judge, suite in itertools.product(node.measures, graph.judges, evaluate.suites):
        for model, baseline in graph.comparisons():
            yield Expected.of(measure, model, judge, suite, baseline, difference=False)
        for first, second in itertools.combinations(graph.models()[1:], 2):
            rivals = Expected.of(measure, second, judge, suite, first, difference=True)
            yield replace(rivals, metric=f"{measure.name}-difference")


def _pairs(graph: Graph, evaluate: Evaluate, node: MetricNode) -> Iterator[Expected]:
    suites = _of_preferences(graph, evaluate)
    for measure, model, suite in itertools.product(node.measures, graph.reward_models(), suites):
        yield Expected.of(measure, model, None, suite, measure.against, difference=measure.against is not None)


def _likelihoods(graph: Graph, evaluate: Evaluate, node: MetricNode) -> Iterator[Expected]:
    # The best of n answers is no model that gives an answer a probability.
    found = _samples(graph, evaluate, node, suites=_of_preferences(graph, evaluate))
    return (each for each in found if each.model not in graph.best_of_n)


def _of_preferences(graph: Graph, evaluate: Evaluate) -> list[str]:
    """The suites that are drawn from preferences."""
    return [
        name
        for name, suite in evaluate.suites.items()
        if suite.data is not None and graph.data[suite.data.partition(".")[0]].kind == "preferences"
    ]


_KAPPAS = ("kappa", "human-kappa")
_PER_SCOPE = {
    "samples": _samples,
    "scores": _scores,
    "harm": _harm,
    "judgements": _judgements,
    "likelihoods": _likelihoods,
    "pairs": _pairs,
}


def matching(gate: Gate, estimates: Sequence[E], baseline: str | None) -> list[E]:
    """The estimates that a gate names.

    One that names no `baseline` means the level, where there is one beside a comparison, else the comparison with the
    plan's `baseline`.
    """
    found = [
        each
        for each in estimates
        if each.model == gate.model
        and each.metric == gate.metric
        and (gate.judge is None or each.judge == gate.judge)
        and (gate.suite is None or each.suite == gate.suite)
        and (gate.baseline is None or each.baseline == gate.baseline)
    ]
    known = {each.baseline for each in found}
    for meant in (None, baseline) if gate.baseline is None else ():
        if meant in known:
            return [each for each in found if each.baseline == meant]
    return found


def interval_text(estimate: Estimate) -> str:
    """A value with its interval, as a gate compares them."""
    interval = f"{100 * estimate.level:g}% interval {estimate.low:.3g} to {estimate.high:.3g}"
    return f"{estimate.value:.3g}, {interval}, n = {estimate.n}"


def check_gate(gate: Gate, expected: Sequence[Expected], baseline: str | None, path: Where, problems: Problems) -> None:
    """Note a gate that matches no estimate, or more than one, or whose bound lies where no value can be."""
    found = matching(gate, expected, baseline)
    if len(found) > 1:
        text = f"matches several estimates: {_listed(found)}. Name the judge, the suite, or both"
        problems.add(path, text)
    if found:
        ((part, bound),) = gate.bounds().items()
        if beyond := _beyond(gate.metric, bound, found[0].span if isinstance(found[0], Expected) else None):
            problems.add((*path, part), beyond)
        return
    for key in ("model", "metric", "judge", "suite", "baseline"):
        value, known = getattr(gate, key), dict.fromkeys(getattr(each, key) for each in expected)
        if value is not None and value not in known:
            problems.add(
                (*path, key), f"no estimate of this plan has the {key} {value!r}{hint(value, filter(None, known))}"
            )
            return
    near = [each for each in expected if (each.model, each.metric) == (gate.model, gate.metric)]
    near = near or [each for each in expected if each.metric == gate.metric]
    problems.add(path, f"matches no estimate of this plan. Near it: {_listed(near)}")


def _beyond(metric: str, bound: str, span: tuple[float, float] | None) -> str | None:
    """What is wrong with a bound on a share that no share meets, or that every share does; percent are the usual slip."""
    sign, limit = split_bound(bound)
    if span is None or (span[0] <= limit <= span[1] and (sign, limit) not in {(">", span[1]), ("<", span[0])}):
        return None
    kind = "a difference of shares, from -1 to 1" if span[0] else "a share from 0 to 1"
    meant = f'; did you mean "{sign} {limit / 100:g}"?' if 2 <= abs(limit) <= 100 and limit >= 100 * span[0] else ""
    return f"{metric} is {kind}{meant or f', and no bound on it is {bound!r}'}"


def _listed(estimates: Sequence[Expected | Estimate]) -> str:
    keys = ("model", "metric", "judge", "suite", "baseline")
    texts = [", ".join(f"{key} {value}" for key in keys if (value := getattr(each, key))) for each in estimates]
    return "; ".join(texts[:6]) + ("; …" if len(texts) > 6 else "")
