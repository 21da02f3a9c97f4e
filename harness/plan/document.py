"""A plan's text → plain values, each with the line it stands on. Nothing in a plan can run code."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import PlanError, Problem, UsageError

MAX_BYTES = 1_000_000
MAX_NODES = 50_000
Path_ = tuple[str | int, ...]


@dataclass
class Document:
    """The values of a plan and where each one comes from: a line of the file, or a `--set` on the command line."""

    file: str
    text: str
    values: dict[str, Any]
    lines: dict[Path_, int] = field(default_factory=dict)
    overrides: dict[Path_, str] = field(default_factory=dict)

    def problem(self, path: Sequence[str | int], text: str) -> Problem:
        """A problem at the value with this path, or at its nearest ancestor that stands somewhere."""
        dotted = ".".join(map(str, path))
        for length in range(len(path), -1, -1):
            prefix = tuple(path[:length])
            if prefix in self.overrides:
                return Problem(0, dotted, text, f"--set {self.overrides[prefix]}")
            if prefix in self.lines:
                return Problem(self.lines[prefix], dotted, text, self.file)
        return Problem(1, dotted, text, self.file)


def read_document(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Read a plan and apply `--set` overrides. Raises PlanError, or UsageError for an override that makes no sense."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder; give the plan file in it") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise _error(path, 1, f"larger than {MAX_BYTES:,} bytes; a plan is a page of text, data belongs in files of its own")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _error(path, line, "not UTF-8 text; save the plan as UTF-8") from None
    document = parse_document(text, str(path))
    for override in overrides:
        _apply(document, override)
    return document


def parse_document(text: str, file: str) -> Document:
    """The values of a plan's text. Raises PlanError with the line for what is not plain YAML."""
    loaded = _load(text, file)
    if loaded is None:
        raise _error(file, 1, "the plan is empty; `harness init` writes one to start from")
    if not isinstance(loaded, Mapping):
        raise _error(file, 1, "a plan is a mapping of keys to values, such as `name: my-plan`")
    document = Document(file, text, {})
    document.values = _plain(loaded, (), document, [MAX_NODES])
    return document


def _load(text: str, file: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="rt")
    yaml.allow_duplicate_keys = False
    try:
        return yaml.load(io.StringIO(text))
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1
        key = (text.splitlines()[line - 1].partition(":")[0]).strip(" -{'\"")
        raise _error(file, line, f"the key {key!r} stands twice in one mapping; remove one") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _error(file, mark.line + 1 if mark else 1, f"not valid YAML: {error.problem or error.context}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        detail = "nested too deeply" if isinstance(error, RecursionError) else str(error).partition("\n")[0]
        raise _error(file, 1, f"not valid YAML: {detail}") from None


def _plain(value: Any, path: Path_, document: Document, budget: list[int]) -> Any:
    """Round-trip YAML nodes as plain Python values; `budget` counts the nodes that aliases may still multiply into."""
    budget[0] -= 1
    line = document.lines.get(path, 1)
    if budget[0] < 0 or len(path) > 30:
        raise _error(document.file, line, "aliases expand to too many values; write the plan out")
    if path and (tag := getattr(getattr(value, "tag", None), "value", None)):
        raise _error(document.file, line, f"the tag {tag} is not allowed: a plan holds plain values only", path)
    if isinstance(value, Mapping):
        plain: dict[str, Any] = {}
        for key, each in value.items():
            if not isinstance(key, str | int | float | bool):
                raise _error(document.file, line, f"the key {key!r} is not text", path)
            child = (*path, str(key))
            document.lines[child] = _line(value, key, line)
            plain[str(key)] = _plain(each, child, document, budget)
        return plain
    if isinstance(value, list | tuple):
        items = []
        for index, each in enumerate(value):
            child = (*path, index)
            document.lines[child] = _line(value, index, line)
            items.append(_plain(each, child, document, budget))
        return items
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    return str(value)


def _line(container: Any, key: Any, otherwise: int) -> int:
    position = (getattr(container.lc, "data", None) or {}).get(key) if hasattr(container, "lc") else None
    return position[0] + 1 if position else otherwise


def _apply(document: Document, override: str) -> None:
    """Set one value by its dotted path, as `--set KEY=VALUE` says."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise UsageError(f"--set {override}: expected KEY=VALUE, such as --set stages.dpo.beta=0.2")
    try:
        value = YAML(typ="safe", pure=True).load(text) if text else None
    except YAMLError as error:
        raise UsageError(f"--set {override}: {text!r} is not a YAML value ({str(error).partition(chr(10))[0]})") from None
    path: Path_ = ()
    target: Any = document.values
    *parents, last = dotted.split(".")
    for name in parents:
        target, path = _descend(target, name, path, override)
    if isinstance(target, list):
        _, path = _descend(target, last, path, override)
        target[int(last)] = value
    elif isinstance(target, dict):
        path = (*path, last)
        target[last] = value
    else:
        raise UsageError(f"--set {override}: {'.'.join(map(str, path))} is {target!r}, it has no {last!r} in it")
    document.overrides[path] = override


def _descend(target: Any, name: str, path: Path_, override: str) -> tuple[Any, Path_]:
    if isinstance(target, list):
        if not name.isdecimal() or int(name) >= len(target):
            raise UsageError(f"--set {override}: {'.'.join(map(str, path))} is a list of {len(target)}; {name!r} is not in it")
        return target[int(name)], (*path, int(name))
    if not isinstance(target, dict):
        raise UsageError(f"--set {override}: {'.'.join(map(str, path))} is {target!r}, it has no {name!r} in it")
    if target.get(name) is None:
        target[name] = {}
    return target[name], (*path, name)


def _error(file: Path | str, line: int, text: str, path: Path_ = ()) -> PlanError:
    return PlanError([Problem(line, ".".join(map(str, path)), text, str(file))])
