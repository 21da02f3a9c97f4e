"""Document → Graph: every problem of a plan at once, each with its line, its path, and a suggestion."""

from __future__ import annotations

import difflib
import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import PlanError, Problem
from ..plugins import Registry
from .document import Document
from .gates import check_gates
from .graph import BASE, DataNode, Graph, JudgeNode, MetricNode, Slot, StageNode
from .model import Gate, Plan
from .sweep import expand_sweep
from .warn import judge_warnings

STAGE_KEYS = ("aligner", "requires")


def check(document: Document, registry: Registry) -> Graph:
    """Resolve a plan. Raises PlanError with all its problems."""
    checker = _Checker(document, registry)
    graph = checker.graph()
    if checker.problems:
        raise PlanError(checker.problems)
    return graph


class _Checker:
    """Collects problems while it resolves; each method returns what could be resolved."""

    def __init__(self, document: Document, registry: Registry) -> None:
        self.document = document
        self.registry = registry
        self.problems: list[Problem] = expand_sweep(document)

    def problem(self, path: Sequence[str | int], text: str) -> None:
        self.problems.append(self.document.problem(path, text))

    def graph(self) -> Graph:
        plan = self.validated(Plan, self.document.values, ())
        if plan is None:
            raise PlanError(self.problems)
        data = self.data(plan)
        stages = self.stages(plan, data)
        judges = self.judges(plan, stages)
        metrics = self.metrics(plan)
        self.evaluation(plan, data, stages)
        graph = Graph(plan, self.document, data, stages, judges, metrics)
        if not self.problems:
            self.problems += check_gates(graph)
        if self.problems:
            raise PlanError(self.problems)
        return Graph(plan, self.document, data, stages, judges, metrics, tuple(judge_warnings(graph)))

    def validated(self, kind: type[Any], values: Any, path: Sequence[str | int]) -> Any | None:
        """An instance of a pydantic model, or None with every problem noted."""
        try:
            return kind.model_validate(values)
        except ValidationError as error:
            for each in error.errors():
                self.problem((*path, *_location(each["loc"], values)), _sentence(each, kind))
            return None

    def component(self, kind: str, values: Mapping[str, Any], path: Sequence[str | int]) -> Any | None:
        """The component that the key `kind` of a mapping names, or None with the problem noted."""
        if kind not in values:
            self.problem(path, f"`{kind}` is missing; there are {_listed(self.registry.names(kind))}")
            return None
        name = values[kind]
        entry = self.registry.get(kind, name) if isinstance(name, str) else None
        if entry is None:
            self.problem((*path, kind), f"unknown {kind} {name!r}{_hint(name, self.registry.names(kind))}{self.broken()}")
        return entry

    def broken(self) -> str:
        return "".join(f"; plugin {p.name!r} could not be loaded ({p.error})" for p in self.registry.broken)

    def data(self, plan: Plan) -> dict[str, DataNode]:
        nodes = {}
        for name, values in plan.data.items():
            path = ("data", name)
            if name in plan.stages or name == BASE:
                self.problem(path, "a stage, or the base model, has this name already; rename one")
            entry = self.component("source", values, path)
            if entry is None:
                continue
            config = self.validated(entry.component.Config, {k: v for k, v in values.items() if k != "source"}, path)
            if config is None:
                continue
            if any(share <= 0 for share in config.split.values()) or sum(config.split.values()) > 1 + 1e-9:
                self.problem((*path, "split"), "shares are above 0 and add up to at most 1")
            nodes[name] = DataNode(name, entry, config)
        return nodes

    def data_kind(self, reference: str, plan: Plan, data: Mapping[str, DataNode], path: Sequence[str | int]) -> str | None:
        """The kind of the rows that a data reference such as `hh.train` stands for, or None with the problem noted."""
        name, _, split = reference.partition(".")
        if name not in plan.data:
            self.problem(path, f"no data named {name!r}{_hint(name, plan.data)}")
        elif name in data:
            splits = data[name].config.split
            if split and split not in splits:
                self.problem(path, f"data {name!r} has no split {split!r}{_hint(split, splits)}")
            elif not split and splits:
                self.problem(path, f"data {name!r} is split; say which part: {_listed(f'{name}.{each}' for each in splits)}")
            else:
                return data[name].kind
        return None

    def stages(self, plan: Plan, data: Mapping[str, DataNode]) -> dict[str, StageNode]:
        kinds = {BASE: "model"}
        entries = {}
        for name, values in plan.stages.items():
            if name == BASE:
                self.problem(("stages", name), "`base` is the starting model; choose another name")
            if entry := self.component("aligner", values, ("stages", name)):
                entries[name] = entry
                kinds[name] = entry.component.gives
        nodes = {name: node for name, entry in entries.items() if (node := self.stage(name, entry, plan, data, kinds))}
        return self.ordered(nodes)

    def stage(
        self, name: str, entry: Any, plan: Plan, data: Mapping[str, DataNode], kinds: Mapping[str, str]
    ) -> StageNode | None:
        path = ("stages", name)
        values = plan.stages[name]
        takes = {slot: Slot.parse(text) for slot, text in entry.component.takes.items()}
        options = {key: value for key, value in values.items() if key not in takes and key not in STAGE_KEYS}
        fields = entry.component.Config.model_fields
        for key in [key for key in options if key not in fields]:
            self.problem((*path, key), f"unknown option{_hint(key, [*fields, *takes, *STAGE_KEYS])}")
            del options[key]
        config = self.validated(entry.component.Config, options, path)
        self.training_arguments(options.get("args"), fields, (*path, "args"))
        slots = {}
        for slot, spec in takes.items():
            reference = values.get(slot)
            if reference is None:
                if not spec.optional:
                    self.problem(path, f"`{slot}` is missing: {entry.name} takes a {' or '.join(spec.kinds)} there")
                continue
            if self.reference(reference, spec, plan, data, kinds, (*path, slot)):
                slots[slot] = reference
        requires = []
        for index, gate in enumerate(values.get("requires") or []):
            if checked := self.validated(Gate, gate, (*path, "requires", index)):
                requires.append(checked)
                if kinds.get(checked.model) != "reward-model":
                    text = f"{checked.model!r} is no reward model of this plan{_hint(checked.model, kinds)}"
                    self.problem((*path, "requires", index, "model"), text)
        return config and StageNode(name, entry, config, slots, tuple(requires), tuple(options))

    def reference(
        self,
        reference: Any,
        spec: Slot,
        plan: Plan,
        data: Mapping[str, DataNode],
        kinds: Mapping[str, str],
        path: Sequence[str | int],
    ) -> bool:
        """Whether a slot's reference exists and is of a kind that fits; a problem is noted otherwise."""
        wants_model = any(kind in {"model", "reward-model"} for kind in spec.kinds)
        wanted = " or ".join(spec.kinds)
        if not isinstance(reference, str):
            self.problem(path, f"expected the name of a {wanted}, not {reference!r}")
            return False
        if reference in plan.stages or reference == BASE:
            kind = kinds.get(reference)
        elif wants_model:
            self.problem(path, f"no stage named {reference!r}{_hint(reference, kinds)}")
            return False
        else:
            kind = self.data_kind(reference, plan, data, path)
        if kind is None:
            return False
        if not spec.accepts(kind):
            self.problem(path, f"{reference!r} is a {kind}, and this slot takes a {wanted}")
            return False
        return True

    def training_arguments(self, args: Any, fields: Iterable[str], path: Sequence[str | int]) -> None:
        if not isinstance(args, Mapping):
            return
        known = (importlib.resources.files(__package__) / "training_arguments.txt").read_text(encoding="utf-8").split()
        for key in args:
            if key in fields:
                self.problem((*path, key), f"give it as the stage's own option `{key}`")
            elif key not in known:
                self.problem((*path, key), f"transformers' TrainingArguments have no such field{_hint(key, known)}")

    def ordered(self, nodes: Mapping[str, StageNode]) -> dict[str, StageNode]:
        """The stages, each after what it builds on; otherwise as the plan lists them."""
        ordered: dict[str, StageNode] = {}
        graph = Graph(None, self.document, {}, nodes, {}, ())  # type: ignore[arg-type]

        def visit(name: str, trail: tuple[str, ...]) -> bool:
            if name in trail:
                cycle = " → ".join([*trail[trail.index(name) :], name])
                self.problem(("stages", name), f"stages build on each other in a circle: {cycle}")
                return False
            if name not in ordered:
                if not all([visit(each, (*trail, name)) for each in dict.fromkeys(graph.inputs(name))]):
                    return False
                ordered[name] = nodes[name]
            return True

        for name in nodes:
            if not visit(name, ()):
                break
        return ordered

    def judges(self, plan: Plan, stages: Mapping[str, StageNode]) -> dict[str, JudgeNode]:
        nodes = {}
        kinds = {BASE: "model", **{name: stage.gives for name, stage in stages.items()}}
        for name, values in (plan.evaluate.judges if plan.evaluate else {}).items():
            path = ("evaluate", "judges", name)
            entry = self.component("judge", values, path)
            if entry is None:
                continue
            config = self.validated(entry.component.Config, {k: v for k, v in values.items() if k != "judge"}, path)
            models = {}
            for option, text in entry.component.takes.items():
                reference, spec = values.get(option), Slot.parse(text)
                if reference is None and spec.optional:
                    continue
                if self.reference(reference, spec, plan, {}, kinds, (*path, option)):
                    models[option] = str(reference)
            if config is not None:
                nodes[name] = JudgeNode(name, entry, config, models)
        return nodes

    def metrics(self, plan: Plan) -> tuple[MetricNode, ...]:
        nodes: dict[str, MetricNode] = {}
        for index, name in enumerate(plan.evaluate.metrics if plan.evaluate else []):
            entry = self.registry.get("metric", name)
            found = [(entry, m) for m in entry.component.measures] if entry else self.measure(name)  # type: ignore[attr-defined]
            if not found:
                names = [*self.registry.names("metric"), *self.measure_names()]
                self.problem(("evaluate", "metrics", index), f"unknown metric {name!r}{_hint(name, names)}{self.broken()}")
            for owner, measure in found:
                old = nodes.get(owner.name, MetricNode(owner, ()))
                if measure not in old.measures:
                    nodes[owner.name] = MetricNode(owner, (*old.measures, measure))
        return tuple(nodes.values())

    def measure(self, name: str) -> list[Any]:
        entries = [self.registry.get("metric", each) for each in self.registry.names("metric")]
        return [(entry, m) for entry in entries if entry for m in entry.component.measures if m.name == name]  # type: ignore[attr-defined]

    def measure_names(self) -> list[str]:
        names = self.registry.names("metric")
        return [m.name for each in names for m in self.registry.component("metric", each).measures]

    def evaluation(self, plan: Plan, data: Mapping[str, DataNode], stages: Mapping[str, StageNode]) -> None:
        """Check that what `evaluate` names exists and is of the right kind."""
        evaluate = plan.evaluate
        if evaluate is None:
            if plan.require:
                self.problem(("require",), "there is nothing to require without `evaluate`")
            return
        models = {BASE: "model", **{name: stage.gives for name, stage in stages.items()}}
        named = [(("baseline",), evaluate.baseline), *((("candidates", i), c) for i, c in enumerate(evaluate.candidates))]
        for path, name in named:
            if name not in plan.stages and name != BASE:
                self.problem(("evaluate", *path), f"no stage named {name!r}{_hint(name, models)}")
            elif models.get(name, "model") != "model":
                self.problem(("evaluate", *path), f"{name!r} is a {models[name]}; it gives no answers to compare")
        if self.registry.get("backend", evaluate.generate.backend) is None:
            names = self.registry.names("backend")
            text = f"unknown backend {evaluate.generate.backend!r}{_hint(evaluate.generate.backend, names)}"
            self.problem(("evaluate", "generate", "backend"), text)
        options = evaluate.generate
        for node in self.metrics(plan) if options.temperature != 1 or options.top_p != 1 else ():
            if node.metric.component.needs_plain_sampling:  # type: ignore[attr-defined]
                text = f"{node.metric.name} is only right for temperature 1 without top_p; change the sampling, or leave it out"
                self.problem(("evaluate", "generate"), text)
        for name, suite in evaluate.suites.items():
            path = ("evaluate", "suites", name)
            if suite.data is not None:
                self.data_kind(suite.data, plan, data, (*path, "data"))
            if suite.suite is not None:
                packaged = packaged_suites()
                if suite.suite not in packaged:
                    self.problem((*path, "suite"), f"no packaged suite {suite.suite!r}{_hint(suite.suite, packaged)}")
        if evaluate.reference is not None:
            kind = self.data_kind(evaluate.reference, plan, data, ("evaluate", "reference"))
            if kind not in {None, "preferences"}:
                self.problem(("evaluate", "reference"), f"{evaluate.reference!r} are {kind}; chosen answers come from preferences")


def packaged_suites() -> list[str]:
    """The names of the suites that come with the package."""
    folder = importlib.resources.files("harness_benchmarks.suites")
    return sorted(path.name.removesuffix(".jsonl") for path in folder.iterdir() if path.name.endswith(".jsonl"))


def _location(location: tuple[str | int, ...], values: Any) -> list[str | int]:
    """Where a value stands; pydantic's names of union members and of checks are left out."""
    kept: list[str | int] = []
    for part in location:
        inside = isinstance(values, Mapping) and (part in values or not kept)
        if inside or (isinstance(values, list) and isinstance(part, int) and part < len(values)):
            kept.append(part)
            values = values[part] if not isinstance(values, Mapping) or part in values else None
        elif isinstance(values, Mapping):
            kept.append(part)
            values = None
    return kept


def _sentence(error: Mapping[str, Any], kind: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown option{_hint(str(error['loc'][-1]), _fields(kind, error['loc'][:-1]))}"
    if error["type"] == "missing":
        return "is missing"
    text = str(error["msg"]).removeprefix("Value error, ")
    text = text[0].lower() + text[1:]
    value = error.get("input")
    return f"{text}, not {value!r}" if isinstance(value, str | int | float | bool) and repr(value) not in text else text


def _fields(kind: Any, location: Iterable[str | int]) -> list[str]:
    """The fields of the model that a location leads to, as far as it can be followed."""
    for part in location:
        field = getattr(kind, "model_fields", {}).get(part)
        if field is not None:
            kind = field.annotation
        models = [each for each in (kind, *getattr(kind, "__args__", ())) if hasattr(each, "model_fields")]
        kind = models[0] if models else kind
    return list(getattr(kind, "model_fields", {}))


def _hint(name: object, known: Iterable[str]) -> str:
    known = [*known]
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; there are {_listed(known)}" if known and len(known) <= 30 else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
