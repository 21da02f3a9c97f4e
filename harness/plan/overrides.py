"""`--set KEY=VALUE`: one value of a plan, given on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import PlanError, UsageError, hint
from .yaml_text import Path_, read_yaml

if TYPE_CHECKING:
    from .document import Document

NAMED = {("data",), ("stages",), ("evaluate", "judges"), ("evaluate", "suites")}


def override(document: Document, text: str) -> None:
    """Set one value by its dotted path; mappings that are missing on the way are made.

    Raises UsageError for a path that leads nowhere and for a value that is not plain YAML.
    """
    dotted, equals, written = text.partition("=")
    if not equals or not all(dotted.split(".")):
        raise UsageError(f"--set {text}: expected KEY=VALUE, such as --set stages.dpo.beta=0.2")
    target: Any = document.values
    path: Path_ = ()
    *parents, last = _keys(document.values, dotted)
    for name in parents:
        key = _key(target, name, path, text)
        if isinstance(target, dict) and target.get(name) is None:
            if path in NAMED:
                raise UsageError(f"--set {text}: {_dotted(path)} has no {name!r}{hint(name, target)}")
            target[name] = {}
        target, path = target[key], (*path, key)
    key = _key(target, last, path, text)
    target[key] = _value(text, written)
    path = (*path, key)
    for below in [each for each in document.lines if each[: len(path)] == path and each != path]:
        del document.lines[below]
    document.overrides[path] = text


def _keys(values: dict[str, Any], dotted: str) -> list[str]:
    """The keys of a dotted path. Keys that hold dots themselves, such as those of `sweep`, are found by what is there."""
    keys: list[str] = []
    target: Any = values
    parts = dotted.split(".")
    while parts:
        taken = len(parts) if keys == ["sweep"] else 1
        if isinstance(target, dict):
            taken = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in target), taken)
        keys.append(".".join(parts[:taken]))
        target = target.get(keys[-1]) if isinstance(target, dict) else None
        parts = parts[taken:]
    return keys


def _key(target: Any, name: str, path: Path_, text: str) -> str | int:
    """The key or index that a name means in a mapping or a list."""
    if isinstance(target, dict):
        return name
    if not isinstance(target, list):
        raise UsageError(f"--set {text}: {_dotted(path)} is {target!r}, it has no {name!r} in it")
    if not name.isdecimal() or int(name) >= len(target):
        raise UsageError(f"--set {text}: {_dotted(path)} is a list of {len(target)}, counted from 0; {name!r} is not in it")
    return int(name)


def _value(text: str, written: str) -> Any:
    try:
        value, _, problems = read_yaml(written, "")
    except PlanError as error:
        problems = list(error.problems)
    if problems:
        raise UsageError(f"--set {text}: {problems[0].text}")
    return value


def _dotted(path: Path_) -> str:
    return ".".join(map(str, path))
