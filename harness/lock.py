"""plan.lock.json, and the identity of a stage: the plan with every default, version and key spelled out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from .components import Artifact, Compute, Dataset
from .data import DataSets
from .judges import JudgeContext, Scorer
from .keys import library_versions
from .plan import Graph, JudgeNode, StageNode
from .plugins import Registry

Input = Artifact | Dataset | Scorer


def stage_identity(graph: Graph, node: StageNode, inputs: Mapping[str, Input], compute: Compute) -> dict[str, Any]:
    """Everything that a trained model depends on."""
    return {
        "what": "stage",
        "component": node.aligner.identity(),
        "options": node.config.model_dump(mode="json"),
        "inputs": {slot: input_key(value) for slot, value in inputs.items()},
        "seed": graph.seed_of(node),
        "compute": compute_identity(compute),
        "libraries": library_versions(),
    }


def input_key(value: Input) -> Any:
    """The key of an artifact, the fingerprint of a data set, or all that a judge's scores depend on."""
    if isinstance(value, Scorer):
        return dict(value.identity)
    return value.key if isinstance(value, Artifact) else value.fingerprint


def stage_inputs(
    node: StageNode,
    artifacts: Mapping[str, Artifact],
    data: DataSets,
    context: Callable[[str, Compute], JudgeContext] = lambda name, compute: JudgeContext(compute, name),
) -> dict[str, Input]:
    """What fills the slots of a stage. Raises KeyError for a model that is not there.

    `context` makes what a judge of that name is given when it scores.
    """
    inputs: dict[str, Input] = {}
    for slot, reference in node.slots.items():
        known = reference in artifacts or not data.has(reference)
        inputs[slot] = artifacts[reference] if known else data.get(reference)
    for slot, judge in node.judges.items():
        models = {option: artifacts[name] for option, name in judge.models.items()}
        inputs[slot] = Scorer(
            judge.judge.name,
            judge.judge.component(),
            judge.config,
            models,
            judge_identity(judge, models, data.folder),
            partial(context, judge.name),
        )
    return inputs


def judge_identity(node: JudgeNode, models: Mapping[str, Artifact], folder: Path) -> dict[str, Any]:
    """All that a judge's numbers depend on, but for the machine. Raises UsageError."""
    files = node.judge.component().fingerprint(node.config, folder)
    return {
        "judge": node.judge.identity(),
        "options": node.config.model_dump(mode="json"),
        "models": {option: artifact.key for option, artifact in models.items()},
        **({"files": dict(files)} if files else {}),
    }


def compute_identity(compute: Compute) -> dict[str, Any]:
    """What of the machine a result is keyed by. Threads are recorded, not keyed: they move only the last bits."""
    return {"device": compute.device, "precision": compute.precision}


def lock_document(graph: Graph, registry: Registry, data: DataSets, compute: Compute) -> dict[str, Any]:
    """The plan as resolved."""
    plan = graph.plan.model_dump(mode="json", exclude_none=True)
    return {
        "plan": plan,
        "set": sorted(graph.document.overrides.values()),
        "stages": {
            name: {
                "aligner": node.aligner.name,
                "component": node.aligner.identity(),
                "gives": node.gives,
                # A judge's models are what the stage builds on, too.
                "slots": {
                    **node.slots,
                    **{
                        f"{slot}.{option}": name
                        for slot, judge in node.judges.items()
                        for option, name in judge.models.items()
                    },
                },
                "judges": {slot: _locked(judge) for slot, judge in node.judges.items()},
                "options": node.config.model_dump(mode="json"),
                "set": list(node.options_set),
                "requires": [str(gate) for gate in node.requires],
                "seed": graph.seed_of(node),
                "copy_of": node.copy_of,
            }
            for name, node in graph.stages.items()
        },
        "judges": {name: _locked(node) for name, node in graph.judges.items()},
        "best_of_n": {name: each.model_dump() for name, each in graph.best_of_n.items()},
        "harm": {name: _locked(node) for name, node in graph.harm.items()},
        "data": {
            reference: {
                "rows": len(each.rows),
                "roots": len({row.root for row in each.rows}),
                "kind": each.kind,
                "dropped": dict(each.dropped),
                "fingerprint": each.fingerprint,
            }
            for reference, each in data.loaded().items()
        },
        "metrics": {
            measure.name: {
                "unit": measure.unit,
                "better": measure.better,
                "scope": node.metric.component.scope,
                "instrument": measure.instrument,
            }
            for node in graph.metrics
            for measure in node.measures
        },
        "compute": {**compute_identity(compute), "threads": compute.threads},
        "versions": library_versions(),
        "plugins": {
            f"{kind} {name}": f"{entry.plugin.distribution} {entry.plugin.version}"
            for (kind, name), entry in sorted(registry.entries.items())
        },
    }


def _locked(node: JudgeNode) -> dict[str, Any]:
    return {
        "judge": node.judge.name,
        "component": node.judge.identity(),
        "models": dict(node.models),
        "options": node.config.model_dump(mode="json"),
    }
