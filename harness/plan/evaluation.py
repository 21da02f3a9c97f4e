"""What a plan evaluates: its judges, metrics, models and suites."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import HarnessError, hint
from ..judges import ScoringJudge
from ..suite_files import read_suite, suite_file
from .graph import Graph, JudgeNode, MetricNode, Slot, held_out
from .problems import Problems, Where

if TYPE_CHECKING:
    from ..metrics import Measure, Metric
    from ..plugins import Entry
    from ..records import SuiteRow
    from .model import Evaluate, Suite
    from .references import References


def resolve_judges(evaluate: Evaluate, problems: Problems, references: References) -> dict[str, JudgeNode]:
    """Every judge that exists, with the stages whose models it uses."""
    found = {
        name: resolve_judge(name, values, ("evaluate", "judges", name), problems, references, tuple(evaluate.suites))
        for name, values in evaluate.judges.items()
    }
    return {name: node for name, node in found.items() if node is not None}


def resolve_harm(evaluate: Evaluate, problems: Problems, references: References) -> dict[str, JudgeNode]:
    """Every judge of harm: one that scores on a scale, since how harmful an answer is must mean something by itself."""
    found = {}
    for name, values in evaluate.harm.items():
        path = ("evaluate", "harm", name)
        node = resolve_judge(name, values, path, problems, references)
        if name in evaluate.judges:
            problems.add(path, f"{name!r} is a judge under `judges` too; a name means one judge")
        if node is not None and getattr(node.judge.component, "scale", None) is None:
            text = (
                f"{node.judge.name!r} scores on no scale of its own; a judge of harm does, from harmless to fully harmful"
            )
            problems.add((*path, "judge"), text)
        elif node is not None:
            found[name] = node
    return found


def resolve_judge(
    name: str,
    values: Mapping[str, Any],
    path: Where,
    problems: Problems,
    references: References,
    suites: Sequence[str] = (),
) -> JudgeNode | None:
    """The judge that a mapping in the plan stands for, with the stages whose models it uses; None if there is none."""
    entry = problems.component("judge", values, path)
    if entry is None:
        return None
    options = {key: value for key, value in values.items() if key != "judge"}
    config = problems.validated(entry.component.Config, options, path)
    models = {}
    for option, text in entry.component.takes.items():
        reference = values.get(option)
        if reference is not None and references.fits(reference, Slot.parse(text), (*path, option)):
            models[option] = reference
    if config is not None:
        for text in entry.component().check(config, problems.document.folder, suites):
            place, colon, rest = text.partition(": ")
            known = colon and place in entry.component.Config.model_fields
            problems.add((*path, place) if known else path, rest if known else text)
    return JudgeNode(name, entry, config, models)


def unfitted(graph: Graph, node: JudgeNode) -> str | None:
    """Why the temperature of a judge's soft preferences cannot be fitted, where the plan wants that; None if it can."""
    judge = node.judge.component()
    if not isinstance(judge, ScoringJudge) or judge.softness(node.config) != "fit":
        return None
    if len(node.models) == 1 and held_out(graph, node) is None:
        (model,) = node.models.values()
        return f"there are no held-out preferences to fit it to; give {model!r} `valid:`, or the plan `evaluate.reference`"
    return None


def resolve_metrics(evaluate: Evaluate, problems: Problems) -> tuple[MetricNode, ...]:
    """The metrics that a plan names, by their own name or by that of one of their measures."""
    known = list(_measures(problems))
    asked: dict[str, tuple[Entry, list[Measure]]] = {}
    for index, name in enumerate(evaluate.metrics):
        found = [(entry, measure) for entry, measure in known if entry.name == name]
        found = found or [(entry, measure) for entry, measure in known if measure.name == name]
        if not found:
            names = dict.fromkeys(each.name for pair in known for each in pair)
            problems.unknown("metric", name, names, ("evaluate", "metrics", index))
        for entry, measure in found:
            _, measures = asked.setdefault(entry.name, (entry, []))
            if measure not in measures:
                measures.append(measure)
    option = _other_sampling(evaluate)
    for entry, _ in asked.values():
        if entry.component.scope == "harm" and not evaluate.harm:
            text = f"{entry.name} needs a judge that scores harm; name one under `evaluate.harm`, or leave it out"
            problems.add(("evaluate", "metrics"), text)
        if entry.component.needs_plain_sampling and option:
            text = f"{entry.name} is only right for temperature 1 without top_p; change the sampling, or leave it out"
            problems.add(("evaluate", "generate", option), text)
    return tuple(MetricNode(entry, tuple(measures)) for entry, measures in asked.values())


def _measures(problems: Problems) -> Iterator[tuple[Entry, Measure]]:
    for name in problems.registry.names("metric"):
        if entry := problems.registry.get("metric", name):
            for measure in entry.component.measures:
                yield entry, measure


def row_problem(metrics: Sequence[MetricNode]) -> Callable[[SuiteRow], str | None]:
    """What the first of these metrics that objects to a suite row says of it."""
    components: list[Metric] = [node.metric.component() for node in metrics]

    def problem(row: SuiteRow) -> str | None:
        return next((text for each in components if (text := each.problem(row))), None)

    return problem


def check_sampling(evaluate: Evaluate, graph: Graph, problems: Problems) -> None:
    """Check that policies along a training, which are laid out by their KL, answer as KL is defined."""
    kept, option = graph.along(), _other_sampling(evaluate)
    if kept and option:
        text = (
            f"policies along a training are compared by their KL, which is only right for temperature 1 without top_p; change "
            f"the sampling, or leave `checkpoints` out of {kept[0].name}"
        )
        problems.add(("evaluate", "generate", option), text)


def _other_sampling(evaluate: Evaluate) -> str | None:
    """The option by which answers are sampled otherwise than at temperature 1 from the whole distribution."""
    options = evaluate.generate
    return "temperature" if options.temperature != 1 else "top_p" if options.top_p != 1 else None


def check_evaluation(evaluate: Evaluate, metrics: Sequence[MetricNode], problems: Problems, references: References) -> None:
    """Check that the models, the backend and the data of an evaluation exist and are of the right kind."""
    models = [
        (("baseline",), evaluate.baseline),
        *((("candidates", i), name) for i, name in enumerate(evaluate.candidates)),
    ]
    for path, name in models:
        if path[0] == "candidates" and name in evaluate.best_of_n:
            continue
        kind = references.stage(name, ("evaluate", *path))
        if kind not in {None, "model"}:
            problems.add(("evaluate", *path), f"{name!r} is a {kind}; it gives no answers to compare")
    if set(evaluate.candidates) == {evaluate.baseline}:
        problems.add(("evaluate", "candidates"), "only the baseline itself; name a model to compare with it")
    for name, best in evaluate.best_of_n.items():
        if name in references.stage_names:
            problems.add(("evaluate", "best_of_n", name), f"{name!r} is a stage too; rename one of them")
        for key, wanted in (("model", "model"), ("reward", "reward-model")):
            where = ("evaluate", "best_of_n", name, key)
            kind = references.stage(getattr(best, key), where)
            if kind not in {None, wanted}:
                problems.add(where, f"{getattr(best, key)!r} is a {kind}; this takes a {wanted}")
        if name not in evaluate.candidates:
            problems.add(("evaluate", "best_of_n", name), "is no candidate; name it there, or leave it out")
    problems.named("backend", evaluate.generate.backend, ("evaluate", "generate", "backend"))
    for name, suite in evaluate.suites.items():
        _check_suite(name, suite, metrics, problems, references)
    if evaluate.reference is not None:
        kind = references.data(evaluate.reference, ("evaluate", "reference"))
        if kind not in {None, "preferences"}:
            text = f"{evaluate.reference!r} is data of kind {kind}; chosen answers come from preferences"
            problems.add(("evaluate", "reference"), text)


def _check_suite(
    name: str, suite: Suite, metrics: Sequence[MetricNode], problems: Problems, references: References
) -> None:
    path = ("evaluate", "suites", name)
    if suite.data is not None:
        references.data(suite.data, (*path, "data"))
    if suite.suite is not None and suite.suite not in (packaged := packaged_suites()):
        problems.add((*path, "suite"), f"no packaged suite {suite.suite!r}{hint(suite.suite, packaged)}")
    if suite.path is not None:
        try:
            file = suite_file(suite.path, problems.document.folder)
            if not file.is_file():
                problems.add((*path, "path"), f"{file}: no such file; paths count from the plan's folder")
            elif not file.stat().st_size:
                problems.add((*path, "path"), f"{file}: is empty; a row is a JSON object with `id` and `prompt`")
            else:
                read_suite(file, row_problem(metrics))
        except HarnessError as error:
            problems.add((*path, "path"), str(error))


def packaged_suites() -> list[str]:
    """The names of the suites that come with the package."""
    folder = importlib.resources.files("harness_benchmarks.suites")
    return sorted(path.name.removesuffix(".jsonl") for path in folder.iterdir() if path.name.endswith(".jsonl"))
