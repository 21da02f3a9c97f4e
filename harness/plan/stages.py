"""The stages of a plan: their options, what fills their slots, and the order to train them in."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from ..errors import hint
from ..judges import ScoringJudge
from .evaluation import resolve_judge
from .gates import Expected, check_gate
from .graph import BASE, ESTIMATES, SCORING_JUDGE, JudgeNode, Slot, StageNode
from .model import Gate, Plan
from .problems import Problems, Where

if TYPE_CHECKING:
    from ..plugins import Entry
    from .references import References

KEYS = ("aligner", "requires")
OWN = frozenset(
    [
        "output_dir",
        "seed",
        "data_seed",
        "use_cpu",
        "bf16",
        "fp16",
        "report_to",
        "disable_tqdm",
        "logging_strategy",
        "logging_nan_inf_filter",
        "save_strategy",
        "save_total_limit",
        "resume_from_checkpoint",
        "push_to_hub",
    ]
)
"""Fields of TrainingArguments that the run sets: checkpoints, logs and numbers depend on them."""


def resolve_stages(plan: Plan, problems: Problems, references: References) -> dict[str, StageNode]:
    """Every stage whose aligner is known, each after what it builds on; otherwise as the plan lists them."""
    entries: dict[str, Entry] = {}
    for name, values in plan.stages.items():
        if name == BASE:
            problems.add(("stages", name), "`base` is the starting model; choose another name")
        elif name == ESTIMATES:
            problems.add(("stages", name), f"`{name}` is a step of the evaluation; choose another name")
        elif name.partition(".")[0] in references.data_names:
            problems.add(("stages", name), "data of this name exist already; rename one")
        if entry := problems.component("aligner", values, ("stages", name)):
            entries[name] = entry
            references.kinds.setdefault(name, entry.component.gives)
    nodes = {name: _stage(name, entry, plan.stages[name], problems, references) for name, entry in entries.items()}
    nodes = {
        name: replace(node, requires=_requires(node, nodes, plan, problems, references)) for name, node in nodes.items()
    }
    return _ordered(nodes, problems)


def _stage(name: str, entry: Entry, values: Mapping[str, Any], problems: Problems, references: References) -> StageNode:
    path = ("stages", name)
    takes = {slot: Slot.parse(text) for slot, text in entry.component.takes.items()}
    fields = entry.component.Config.model_fields
    options = {key: value for key, value in values.items() if key not in takes and key not in KEYS}
    for key in [key for key in options if key not in fields]:
        problems.add((*path, key), f"unknown option{hint(key, [*fields, *takes, *KEYS])}")
        del options[key]
    config = problems.validated(entry.component.Config, options, path)
    _check_arguments(options.get("args"), fields, (*path, "args"), problems)
    slots, judges = {}, {}
    for slot, spec in takes.items():
        reference = values.get(slot)
        if isinstance(reference, Mapping) and SCORING_JUDGE in spec.kinds:
            if judge := _scoring_judge(f"{name}.{slot}", reference, (*path, slot), problems, references):
                judges[slot] = judge
        elif reference is not None and references.fits(reference, spec, (*path, slot)):
            slots[slot] = reference
        elif reference is None and not spec.optional:
            problems.add(path, f"`{slot}` is missing: {entry.name} takes a {' or '.join(spec.kinds)} there")
    return StageNode(name, entry, config, slots, (), tuple(options), judges)


def _scoring_judge(
    name: str, values: Mapping[str, Any], path: Where, problems: Problems, references: References
) -> JudgeNode | None:
    """The judge that fills a slot; one that only compares answers gives no number to learn from."""
    node = resolve_judge(name, values, path, problems, references)
    if node is None or issubclass(node.judge.component, ScoringJudge):
        return node
    judges = {each: problems.registry.component("judge", each) for each in problems.registry.names("judge")}
    scoring = ", ".join(each for each, component in judges.items() if issubclass(component, ScoringJudge))
    problems.add((*path, "judge"), f"{node.judge.name!r} compares answers and scores none; judges that do are {scoring}")
    return None


def _check_arguments(args: Any, fields: Iterable[str], path: Where, problems: Problems) -> None:
    """Check that `args` names fields of TrainingArguments, and none that the stage has an option for."""
    if not isinstance(args, Mapping):
        return
    known = (importlib.resources.files(__package__) / "training_arguments.txt").read_text(encoding="utf-8").split()
    for key in args:
        if key in fields:
            problems.add((*path, key), f"give it as the stage's own option `{key}`")
        elif key in OWN:
            problems.add((*path, key), "the run sets it; `seed`, `device` and `precision` stand at the top of the plan")
        elif key not in known:
            problems.add((*path, key), f"transformers' TrainingArguments have no such field{hint(key, known)}")


def _requires(
    node: StageNode, nodes: Mapping[str, StageNode], plan: Plan, problems: Problems, references: References
) -> tuple[Gate, ...]:
    """What must hold before a stage starts: measures of reward models on their `valid` preferences."""
    values = plan.stages[node.name].get("requires") or []
    if not isinstance(values, list):
        problems.add(("stages", node.name, "requires"), "expected a list of gates")
        return ()
    gates = []
    for index, value in enumerate(values):
        path = ("stages", node.name, "requires", index)
        gate = problems.validated(Gate, value, path)
        if gate is None:
            continue
        gates.append(gate)
        kind = references.stage(gate.model, (*path, "model"))
        if kind == "reward-model" and gate.model in nodes:
            _check_required(gate, nodes[gate.model], plan, path, problems)
        elif kind is not None:
            problems.add((*path, "model"), f"{gate.model!r} is a {kind}; what a stage requires of is a reward-model")
    return tuple(gates)


def _check_required(gate: Gate, required: StageNode, plan: Plan, path: Where, problems: Problems) -> None:
    valid = required.slots.get("valid")
    if valid is not None:
        components = [problems.registry.component("metric", name) for name in problems.registry.names("metric")]
        measures = [measure for each in components if each.scope == "pairs" for measure in each.measures]
        expected = [
            Expected.of(each, required.name, None, valid, each.against, difference=each.against is not None)
            for each in measures
        ]
        check_gate(gate, expected, None, path, problems)
    elif plan.stages[required.name].get("valid") is None:
        problems.add((*path, "model"), f"{required.name!r} is measured on no data; give it `valid:`")


def _ordered(nodes: Mapping[str, StageNode], problems: Problems) -> dict[str, StageNode]:
    """The stages, each after what it builds on. A circle is noted, once."""
    inputs = {name: [each for each in node.names() if each in nodes and each != BASE] for name, node in nodes.items()}
    try:
        TopologicalSorter(inputs).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1][:0:-1]
        first = min(range(len(circle)), key=lambda index: list(nodes).index(circle[index]))
        names = [*circle[first:], *circle[: first + 1]]
        problems.add(("stages", names[0]), f"stages build on each other in a circle: {' → '.join(names)}")
        return dict(nodes)
    ordered: dict[str, StageNode] = {}
    while len(ordered) < len(nodes):
        name = next(each for each in nodes if each not in ordered and all(name in ordered for name in inputs[each]))
        ordered[name] = nodes[name]
    return ordered
