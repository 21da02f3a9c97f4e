"""The stages of a plan: their options, what fills their slots, and the order to train them in."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..errors import hint
from ..judges import ScoringJudge
from ..options import ENGINE_ARGUMENTS, EngineArguments
from .evaluation import resolve_judge
from .gates import Expected, check_gate
from .graph import BASE, ESTIMATES, SCORING_JUDGE, JudgeNode, Slot, StageNode
from .model import Gate, Plan
from .problems import Problems, Where

if TYPE_CHECKING:
    from ..plugins import Entry
    from .references import References

KEYS = ("aligner", "requires")
OWN: Mapping[str, str] = {
    "output_dir": "`harness run` has --out for the run folder and --store for the models",
    "seed": "give `seed` at the top of the plan",
    "data_seed": "`seed` at the top of the plan is that of the order of rows, too",
    "use_cpu": "give `device: cpu` at the top of the plan",
    "bf16": "give `precision: bf16` at the top of the plan",
    "fp16": "`precision` at the top of the plan is fp32 or bf16; there is no fp16",
    "report_to": "values go to the run folder and its report; a plugin's `harness_stage_log` can send them elsewhere",
    "disable_tqdm": "a run shows a progress line of its own; leave it out",
    "logging_strategy": "`logging_steps` says how often values are logged",
    "logging_nan_inf_filter": "what is NaN is logged as NaN; leave it out",
    "save_strategy": "`save_steps` says how often a checkpoint is written",
    "save_total_limit": "a stage keeps its last two checkpoints until it is done; leave it out",
    "resume_from_checkpoint": "run the plan again, and it goes on where it stopped",
    "push_to_hub": "models stay in the store, as folders; push one from there",
}
"""What to do instead for fields of TrainingArguments that the run sets: checkpoints, logs and numbers depend on them."""

_LORA = "write `lora: {r: …, alpha: …, target_modules: …}`"
_BOTH = "`max_length` is that of prompt and answer; where they are longer, the prompt is cut"
_NOT_WHILE_TRAINING = "nothing is evaluated while a stage trains; the plan's `evaluate` says what is measured afterwards"
OTHER_NAMES: Sequence[tuple[str, str, str]] = (
    ("lr", "learning_rate", "here it is `learning_rate`"),
    ("epochs num_epochs", "num_train_epochs", "here it is `num_train_epochs`"),
    ("batch_size train_batch_size", "rollout_batch_size", "here it is `rollout_batch_size`, the answers of an iteration"),
    ("batch_size train_batch_size", "per_device_train_batch_size", "here it is `per_device_train_batch_size`"),
    ("total_episodes", "rollout_batch_size", "`max_steps` counts iterations of `rollout_batch_size` answers"),
    ("warmup_ratio", "warmup_steps", "here it is `warmup_steps`: below 1 it is a share of all steps"),
    ("max_completion_length max_new_tokens", "response_length", "here it is `response_length`"),
    ("max_prompt_length max_completion_length", "max_length", _BOTH),
    ("max_new_tokens", "", "`evaluate.generate.max_new_tokens` is that of the answers which are compared"),
    ("gradient_checkpointing", "args", "write `args: {activation_checkpointing: …}`"),
    ("gradient_checkpointing_kwargs", "args", "write `args: {activation_checkpointing_kwargs: …}`"),
    ("peft_config use_peft", "lora", _LORA),
    ("lora_r lora_rank", "lora", "write `lora: {r: …}`"),
    ("lora_alpha", "lora", "write `lora: {alpha: …}`"),
    ("lora_target_modules target_modules", "lora", "write `lora: {target_modules: …}`"),
    ("lora_dropout", "lora", f"adapters have no dropout here; {_LORA}"),
    ("beta kl_beta init_kl_coef", "kl_coef", "here it is `kl_coef`"),
    ("epsilon", "cliprange", "here it is `cliprange`"),
    ("precompute_ref_log_probs", "aligner: dpo", "that is always done, but with `engine: trl`; leave it out"),
    ("ref_model reference_model", "aligner: dpo", "the reference is `init`"),
    ("ref_model reference_model", "aligner: ppo", "the reference is `init`"),
    ("packing", "engine", "every row is a sequence of its own; leave it out"),
    ("model model_name_or_path sft_model_path", "init", "here it is `init`"),
    ("reward_model reward_model_path", "reward", "here it is `reward`"),
    ("dataset train_dataset dataset_name", "data", "here it is `data`"),
    ("eval_dataset", "valid", "here it is `valid`"),
    ("eval_dataset evaluation_strategy eval_strategy eval_steps eval_delay eval_on_start do_eval", "", _NOT_WHILE_TRAINING),
    ("per_device_eval_batch_size load_best_model_at_end metric_for_best_model", "", _NOT_WHILE_TRAINING),
    ("logging_dir", "", OWN["output_dir"]),
    ("no_cuda", "", OWN["use_cpu"]),
)
"""Names that options have in transformers, TRL and peft; the option, slot or aligner that a stage must have; what it is here."""


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
        said = _elsewhere(key, entry) or OWN.get(key) or _as_argument(key, options, entry)
        problems.add((*path, key), f"unknown option{f'; {said}' if said else hint(key, [*fields, *takes, *KEYS])}")
        del options[key]
    if isinstance(arguments := options.get("args"), Mapping):
        wrong = _check_arguments(arguments, entry, (*path, "args"), problems)
        options["args"] = {key: value for key, value in arguments.items() if key not in wrong}
    config = problems.validated(entry.component.Config, options, path)
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


def _elsewhere(key: str, entry: Entry) -> str | None:
    """What to do for an option by the name that other libraries give it; None for a name that none does."""
    has = {"", f"aligner: {entry.name}", *entry.component.takes, *entry.component.Config.model_fields}
    return next((text for names, needs, text in OTHER_NAMES if key in names.split() and needs in has), None)


def _as_argument(key: str, options: Mapping[str, Any], entry: Entry) -> str | None:
    """What to do for a field of TrainingArguments that no option stands for: it goes into `args`, if the aligner reads it there."""
    config = entry.component.Config
    if key not in _training_arguments() or "args" not in config.model_fields:
        return None
    value = EngineArguments.model_fields[key].default if key in ENGINE_ARGUMENTS else options[key]
    engine = {name: options[name] for name in ("engine",) if name in options and name in config.model_fields}
    try:
        config.model_validate({**engine, "args": {key: value}})
    except ValidationError as error:
        refused = [text.partition("args: ")[2] for each in error.errors() if key in (text := str(each["msg"]))]
        return refused[0] if refused else f"write `args: {{{key}: …}}`"
    return f"write `args: {{{key}: …}}`"


def _training_arguments() -> list[str]:
    return (importlib.resources.files(__package__) / "training_arguments.txt").read_text(encoding="utf-8").split()


def _check_arguments(args: Mapping[str, Any], entry: Entry, path: Where, problems: Problems) -> set[str]:
    """Note what `args` names but fields of TrainingArguments, and fields that the stage has an option for; return those names."""
    known, wrong = _training_arguments(), {}
    for key in args:
        if key in entry.component.Config.model_fields:
            wrong[key] = f"give it as the stage's own option `{key}`"
        elif key in OWN:
            wrong[key] = f"the run sets it; {OWN[key]}"
        elif key not in known:
            said = _elsewhere(key, entry)
            wrong[key] = f"transformers' TrainingArguments have no such field{f'; {said}' if said else hint(key, known)}"
    for key, text in wrong.items():
        problems.add((*path, key), text)
    return set(wrong)


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
