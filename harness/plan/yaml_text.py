"""YAML text → plain values, each with the line it stands on.

Only the node graph is read: no tag is ever constructed, so nothing in a text can run code.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from ..errors import PlanError, Problem

MAX_NODES = 50_000
MAX_DEPTH = 30
TAG = "tag:yaml.org,2002:"
COLLECTIONS = {f"{TAG}map", f"{TAG}seq"}
SCALARS = {f"{TAG}{kind}" for kind in ("null", "bool", "int", "float", "str", "timestamp", "merge", "value")}
MERGE = f"{TAG}merge"
Path_ = tuple[str | int, ...]


def read_yaml(text: str, file: str) -> tuple[Any, dict[Path_, int], list[Problem]]:
    """The values of one YAML document, their lines by path, and the problems that leave the rest readable.

    Raises PlanError for a text that is no YAML, and for aliases that loop or multiply without end.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an anchor may be used again
            node = yaml.compose(io.StringIO(text))
    except ReaderError as error:
        line = text.count("\n", 0, text.find(chr(error.character)) + 1) + 1
        raise _no_yaml(file, line, f"the character U+{error.character:04X} is not allowed in text") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context
        if problem == "but found another document":
            problem = "a second document begins here; keep one plan a file"
        if problem and r"'\t'" in problem:
            problem += "; indent with spaces, not tabs"
        raise _no_yaml(file, mark.line + 1 if mark else 1, problem) from None
    except YAMLError as error:
        raise _no_yaml(file, 1, str(error).partition("\n")[0]) from None
    except RecursionError:
        raise _no_yaml(file, 1, "nested too deeply") from None
    if node is None:
        return None, {}, []
    reader = _Reader(file, yaml.constructor)
    return reader.value(node, (), 1), reader.lines, reader.problems


class _Reader:
    """Turns nodes into values; an alias is the node that it names, met again."""

    def __init__(self, file: str, constructor: Any) -> None:
        self.file = file
        self.constructor = constructor
        self.lines: dict[Path_, int] = {}
        self.problems: list[Problem] = []
        self.left = MAX_NODES
        self.open: set[int] = set()

    def problem(self, line: int, path: Path_, text: str) -> Problem:
        return Problem(line, ".".join(map(str, path)), text, self.file)

    def value(self, node: Node, path: Path_, line: int) -> Any:
        self.left -= 1
        if id(node) in self.open:
            raise PlanError([self.problem(line, path, "an alias that contains itself; write the values out")])
        if self.left < 0:
            raise PlanError([self.problem(line, path, "aliases expand to too many values; write the plan out")])
        if len(path) > MAX_DEPTH:
            raise PlanError([self.problem(line, path[:3], "nested too deeply")])
        if path:
            self.lines[path] = line
        if node.tag not in (SCALARS if isinstance(node, ScalarNode) else COLLECTIONS):
            tag = str(node.tag).replace(TAG, "!!")
            self.problems.append(self.problem(line, path, f"the tag {tag} is not allowed: a plan holds plain values only"))
            return str(node.value) if isinstance(node, ScalarNode) else None
        if isinstance(node, ScalarNode):
            return self.scalar(node, path, line)
        self.open.add(id(node))
        value = self.mapping(node, path) if isinstance(node, MappingNode) else self.sequence(node, path)
        self.open.remove(id(node))
        return value

    def scalar(self, node: ScalarNode, path: Path_, line: int) -> Any:
        kind = str(node.tag).removeprefix(TAG)
        if any("\ud800" <= letter <= "\udfff" for letter in node.value):
            self.problems.append(self.problem(line, path, "half a character (a lone surrogate); write it whole"))
            return ""
        if kind not in {"null", "bool", "int", "float"}:
            return str(node.value)
        try:
            return getattr(self.constructor, f"construct_yaml_{kind}")(node)
        except (KeyError, ValueError):
            self.problems.append(self.problem(line, path, f"{str(node.value)[:40]!r} is not a value of type {kind}"))
            return str(node.value)

    def sequence(self, node: Node, path: Path_) -> list[Any]:
        return [self.value(each, (*path, index), _line(each)) for index, each in enumerate(node.value)]

    def mapping(self, node: MappingNode, path: Path_) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for key, each in sorted(node.value, key=lambda item: item[0].tag != MERGE):  # so that its own lines come last
            name, line = str(key.value), _line(key)
            if key.tag == MERGE:
                for source in each.value if isinstance(each, SequenceNode) else [each]:
                    more = self.value(source, path, self.lines.get(path, line))
                    if isinstance(more, dict):
                        merged = {**more, **merged}
                    else:
                        text = f"`<<` takes a mapping, or an alias of one such as *common, not {str(more)[:40]!r}"
                        self.problems.append(self.problem(line, path, text))
            elif not isinstance(key, ScalarNode):
                self.problems.append(self.problem(line, path, "a key is text, not a list or a mapping"))
            elif name in values:
                self.problems.append(self.problem(line, (*path, name), f"the key {name!r} stands twice; remove one"))
            else:
                values[name] = self.value(each, (*path, name), line)
        return {**merged, **values}


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _no_yaml(file: str, line: int, text: str | None) -> PlanError:
    return PlanError([Problem(line, "", f"not valid YAML: {text}", file)])
