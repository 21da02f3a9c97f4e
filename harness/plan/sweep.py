"""Sweeps: one stage becomes several, with every combination of the swept options, and so does what builds on it."""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import hint
from .model import NAME

if TYPE_CHECKING:
    from ..errors import Problem
    from ..plugins import Registry
    from .document import Document
    from .yaml_text import Path_

MOST = 200
Axes = dict[str, list[Any]]


def expand_sweep(document: Document, registry: Registry) -> list[Problem]:
    """Replace swept stages in the document's values, in place; returns the problems of the sweep itself.

    `sweep: {dpo.beta: [0.05, 0.1]}` turns `dpo` into `dpo-beta-0.05` and `dpo-beta-0.1`; stages, candidates and gates that
    name `dpo` are repeated for each. An option may lie within another, as `dpo.lora.r` does. What is wrong with the sweep
    itself leaves it, told of once.
    """
    sweep, stages = document.values.get("sweep"), document.values.get("stages")
    if not isinstance(sweep, Mapping) or not isinstance(stages, Mapping):
        return []
    problems = []
    swept: dict[str, Axes] = {}
    for key, values in sweep.items():
        stage, option = _split(key, stages)
        if text := _fault(key, stage, option, values, stages):
            problems.append(document.problem(("sweep", key), text))
        else:
            swept.setdefault(stage, {})[option] = values
    count = sum(math.prod(map(len, axes.values())) for axes in swept.values())
    if count > MOST:
        problems.append(document.problem(("sweep",), f"makes {count} stages; at most {MOST} in one plan"))
    else:
        problems += [document.problem(*each) for stage, axes in swept.items() for each in _misnamed(stage, axes)]
    if problems:
        document.values["sweep"] = {}
        return problems

    def affected(stage: str) -> set[str]:
        return _descendants(document.values["stages"], stage, registry)

    # What builds on another swept stage comes first: its variants are then repeated with everything else that does.
    for stage in sorted(swept, key=lambda each: len(affected(each))):
        problems += _expand(document, stage, swept[stage], affected(stage), registry)
    return problems


def _split(key: str, stages: Mapping[str, Any]) -> tuple[str, str]:
    """Stage and option of a sweep's key; a stage's name may hold dots."""
    for stage in sorted(stages, key=len, reverse=True):
        if key.startswith(f"{stage}."):
            return stage, key.removeprefix(f"{stage}.")
    return "", ""


def _fault(key: str, stage: str, option: str, values: Any, stages: Mapping[str, Any]) -> str | None:
    if not option and key in stages:
        return f"write STAGE.OPTION: name an option too, such as {key}.learning_rate"
    if not option:
        return f"write STAGE.OPTION, with a stage of this plan, such as dpo.beta{hint(key.partition('.')[0], stages)}"
    if not all(option.split(".")):
        return "write STAGE.OPTION without an empty part"
    if not isinstance(values, list) or not values:
        return "a sweep is a list of values"
    if not all(isinstance(value, str | int | float) for value in values):
        return "a sweep's values are numbers or text"
    holder: Any = stages[stage]
    for part in option.split(".") if isinstance(holder, Mapping) else ():
        if not isinstance(holder, Mapping):
            return f"`{option.rpartition('.')[0]}` of {stage!r} is {holder!r}; nothing lies within it"
        if (holder := holder.get(part)) is None:
            break
    names = [_short(value) for value in values]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        return f"{twice[0]} stands twice; each value names a stage of its own"
    return None


def _misnamed(stage: str, axes: Axes) -> Iterator[tuple[Path_, str]]:
    """The first variant whose name is none, with the place of what makes it so."""
    for suffix, chosen in _variants(axes) if re.fullmatch(NAME, stage) else ():
        if not re.fullmatch(NAME, name := stage + suffix):
            bad = (option for option, index in chosen.items() if not re.fullmatch(NAME, f"x{_short(axes[option][index])}"))
            option = next(bad, next(iter(axes)))
            text = f"makes a stage {name!r}, which is no name; a name has up to 80 letters, digits, '-', '_' and '.'"
            yield ("sweep", f"{stage}.{option}"), text
            return


def _expand(document: Document, stage: str, axes: Axes, affected: set[str], registry: Registry) -> list[Problem]:
    """Replace one stage, and what builds on it, by their variants."""
    values = document.values
    if not isinstance(values["stages"].get(stage), Mapping):
        return []
    variants = list(_variants(axes))
    problems: list[Problem] = []
    copies: list[tuple[Path_, Path_]] = []
    stages: dict[str, Any] = {}
    for name, options in values["stages"].items():
        for suffix, chosen in variants if name in affected else [("", {})]:
            variant = copy.deepcopy(options)
            for holder, key in _inputs(variant, registry) if suffix else ():
                if holder[key] in affected:
                    holder[key] += suffix
            new = name + suffix
            if suffix:
                copies.append((("stages", name), ("stages", new)))
            if name == stage:
                for option, index in chosen.items():
                    made = _put(variant, option.split("."), axes[option][index])
                    copies += [(("sweep", f"{stage}.{option}"), ("stages", new, *path)) for path in made]
            if suffix and new in values["stages"]:
                problems.append(
                    document.problem(("stages", new), "the sweep makes a stage of this name too; rename this one")
                )
            stages[new] = variant
    values["stages"] = stages
    document.copied(copies)
    suffixes = [suffix for suffix, _ in variants]
    evaluate = values.get("evaluate")
    if isinstance(evaluate, dict):
        _repeat(document, evaluate, ("evaluate", "candidates"), lambda name: _variants_of(name, affected, suffixes))
    _repeat(
        document,
        values,
        ("require",),
        lambda gate: (
            [{**gate, "model": model} for model in _variants_of(gate.get("model"), affected, suffixes)]
            if isinstance(gate, Mapping)
            else [gate]
        ),
    )
    return problems


def _variants(axes: Axes) -> Iterator[tuple[str, dict[str, int]]]:
    """Every combination: the suffix of its stage's name, and the index of each option's value."""
    for indices in itertools.product(*(range(len(values)) for values in axes.values())):
        chosen = dict(zip(axes, indices, strict=True))
        yield "".join(f"-{option}-{_short(axes[option][index])}" for option, index in chosen.items()), chosen


def _put(options: dict[str, Any], option: Sequence[str], value: Any) -> list[Path_]:
    """Set an option, which may lie within others; returns the paths of all that were not there, and its own."""
    made: list[Path_] = []
    for depth, key in enumerate(option[:-1], 1):
        if options.get(key) is None:
            options[key] = {}
            made.append(tuple(option[:depth]))
        options = options[key]
    options[option[-1]] = value
    return [*made, tuple(option)]


def _variants_of(name: Any, affected: set[str], suffixes: Sequence[str]) -> list[Any]:
    return [name + suffix for suffix in suffixes] if isinstance(name, str) and name in affected else [name]


def _repeat(document: Document, holder: dict[str, Any], path: Path_, variants: Callable[[Any], list[Any]]) -> None:
    """Replace each item of the list at the path's last key by its variants, which stand where it stood."""
    items = holder.get(str(path[-1]))
    if not isinstance(items, list):
        return
    repeated = [(index, each) for index, item in enumerate(items) for each in variants(item)]
    holder[str(path[-1])] = [each for _, each in repeated]
    document.copied([((*path, old), (*path, new)) for new, (old, _) in enumerate(repeated)])


def _descendants(stages: Mapping[str, Any], stage: str, registry: Registry) -> set[str]:
    """A stage and every stage that builds on it."""
    inputs = {name: {holder[key] for holder, key in _inputs(options, registry)} for name, options in stages.items()}
    found = {stage}
    while more := {name for name, names in inputs.items() if names & found} - found:
        found |= more
    return found


def _inputs(options: Any, registry: Registry) -> Iterator[tuple[dict[str, Any], str]]:
    """Where a stage names others, as the mapping and the key that hold the name: its slots, their judges, and what it requires."""
    if not isinstance(options, dict):
        return
    name = options.get("aligner")
    aligner = registry.get("aligner", name) if isinstance(name, str) else None
    for slot in aligner.component.takes if aligner else ():
        filling = options.get(slot)
        if isinstance(filling, str):
            yield options, slot
        elif isinstance(filling, dict) and isinstance(filling.get("judge"), str):
            judge = registry.get("judge", filling["judge"])
            for option in judge.component.takes if judge else ():
                if isinstance(filling.get(option), str):
                    yield filling, option
    requires = options.get("requires")
    for gate in requires if isinstance(requires, list) else ():
        if isinstance(gate, dict) and isinstance(gate.get("model"), str):
            yield gate, "model"


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
