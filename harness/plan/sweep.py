"""Sweeps: one stage becomes several, with every combination of the swept options, and so does what builds on it."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import Problem
from .document import Document


def expand_sweep(document: Document) -> list[Problem]:
    """Replace swept stages in the document's values, in place; returns the problems of the sweep itself.

    `sweep: {dpo.beta: [0.05, 0.1]}` turns `dpo` into `dpo-beta-0.05` and `dpo-beta-0.1`; stages, candidates and gates that
    name `dpo` are repeated for each.
    """
    values = document.values
    sweep, stages = values.get("sweep"), values.get("stages")
    if not isinstance(sweep, Mapping) or not isinstance(stages, Mapping):
        return []
    problems = []
    axes: dict[str, dict[str, Sequence[Any]]] = {}
    for key, options in sweep.items():
        stage, _, option = str(key).partition(".")
        if not isinstance(stages.get(stage), Mapping) or not option:
            problems.append(document.problem(("sweep", key), 'write STAGE.OPTION, with a stage of this plan, such as "dpo.beta"'))
        elif not isinstance(options, list) or not options:
            problems.append(document.problem(("sweep", key), "a sweep is a list of values"))
        else:
            axes.setdefault(stage, {})[option] = options
    if problems:
        return problems
    for stage, swept in axes.items():
        _expand(document, stage, swept)
    return []


def _expand(document: Document, stage: str, swept: Mapping[str, Sequence[Any]]) -> None:
    settings = [dict(zip(swept, combination, strict=True)) for combination in itertools.product(*swept.values())]
    variants = [("".join(f"-{option}-{_short(value)}" for option, value in setting.items()), setting) for setting in settings]
    values = document.values
    affected = _descendants(values["stages"], stage)
    stages: dict[str, Any] = {}
    for name, options in values["stages"].items():
        if name not in affected:
            stages[name] = options
            continue
        for suffix, setting in variants:
            variant = copy.deepcopy(options)
            for key, value in variant.items():
                if isinstance(value, str) and value in affected and key != "aligner":
                    variant[key] = value + suffix
            for gate in variant.get("requires") or []:
                if isinstance(gate, dict) and gate.get("model") in affected:
                    gate["model"] += suffix
            if name == stage:
                variant.update(setting)
            stages[name + suffix] = variant
            _copy_lines(document, ("stages", name), ("stages", name + suffix))
    values["stages"] = stages
    suffixes = [suffix for suffix, _ in variants]
    evaluate = values.get("evaluate")
    if isinstance(evaluate, dict) and isinstance(evaluate.get("candidates"), list):
        evaluate["candidates"] = [
            each for name in evaluate["candidates"] for each in ([name + s for s in suffixes] if name in affected else [name])
        ]
    if isinstance(values.get("require"), list):
        values["require"] = [
            each
            for gate in values["require"]
            for each in (
                [{**gate, "model": gate["model"] + s} for s in suffixes]
                if isinstance(gate, dict) and gate.get("model") in affected
                else [gate]
            )
        ]


def _descendants(stages: Mapping[str, Any], stage: str) -> set[str]:
    affected = {stage}
    while True:
        more = {
            name
            for name, options in stages.items()
            if isinstance(options, Mapping) and any(isinstance(value, str) and value in affected for value in options.values())
        }
        if more <= affected:
            return affected
        affected |= more


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _copy_lines(document: Document, old: tuple[str, ...], new: tuple[str, ...]) -> None:
    for path, line in list(document.lines.items()):
        if path[: len(old)] == old:
            document.lines[(*new, *path[len(old) :])] = line
