"""A plan's text → plain values, each with the place it comes from. Nothing in a plan can run code."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import PlanError, Problem, UsageError
from .overrides import override
from .yaml_text import Path_, read_yaml

MAX_BYTES = 250_000


@dataclass
class Document:
    """The values of a plan and where each one comes from: a line of the file, or a `--set` on the command line.

    Relative paths in the plan count from `folder`: the plan's own, or the working directory for a plan that comes with the
    package. `problems` are those of the text itself that leave the rest readable, such as a key that stands twice. `origins`
    says of values that a sweep made where the plan has what they were made from.
    """

    file: str
    text: str
    values: dict[str, Any]
    folder: Path = Path()
    lines: dict[Path_, int] = field(default_factory=dict)
    overrides: dict[Path_, str] = field(default_factory=dict)
    origins: dict[Path_, Path_] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, path: Sequence[str | int], text: str) -> Problem:
        """A problem at the value with this path as the plan has it, or at its nearest ancestor that stands somewhere."""
        path = self.origin(tuple(path))
        dotted = ".".join(map(str, path))
        for length in range(len(path), -1, -1):
            prefix = tuple(path[:length])
            if prefix in self.overrides:
                return Problem(0, dotted, text, f"--set {self.overrides[prefix]}")
            if prefix in self.lines:
                return Problem(self.lines[prefix], dotted, text, self.file)
        return Problem(1, dotted, text, self.file)

    def origin(self, path: Path_) -> Path_:
        """Where the plan has what the value with this path was made from: the path itself, if no sweep made it."""
        for length in range(len(path), 0, -1):
            if (found := self.origins.get(path[:length])) is not None:
                return found + path[length:]
        return path

    def copied(self, copies: Iterable[tuple[Path_, Path_]]) -> None:
        """Let each second path come from where the first one does, with everything below it."""
        before = dict(self.origins)
        found = [(new, old, self.origin(old)) for old, new in copies]
        for new, old, origin in found:
            for path in [path for path in self.origins if path[: len(new)] == new]:
                del self.origins[path]
            below = {path: place for path, place in before.items() if path[: len(old)] == old}
            self.origins.update({(*new, *path[len(old) :]): place for path, place in below.items()})
            self.origins[new] = origin

    def not_finite(self) -> Iterator[Problem]:
        """Every number that is NaN or infinite, whatever reads it."""
        for path, value in _leaves(self.values, ()):
            if isinstance(value, float) and not math.isfinite(value):
                yield self.problem(path, f"expected a finite number, not {value}")


def _leaves(value: Any, path: Path_) -> Iterator[tuple[Path_, Any]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _leaves(each, (*path, index))
    else:
        yield path, value


def read_document(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Read a plan and apply `--set` overrides. Raises PlanError, or UsageError for an override that makes no sense."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder; give the plan file in it") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > MAX_BYTES:
        text = f"larger than {MAX_BYTES:,} bytes; a plan is a page of text, data belongs in files of its own"
        raise PlanError([Problem(1, "", text, str(path))])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PlanError([Problem(line, "", "not UTF-8 text; save the plan as UTF-8", str(path))]) from None
    document = parse_document(text, str(path))
    for each in overrides:
        override(document, each)
    return document


def parse_document(text: str, file: str) -> Document:
    """The values of a plan's text. Raises PlanError with the line for what is not plain YAML, and for an empty text."""
    values, lines, problems = read_yaml(text, file)
    if isinstance(values, dict):
        return Document(file, text, values, Path(file).parent, lines, problems=problems)
    if values is None and not problems:
        problems = [Problem(1, "", "the plan is empty; `harness init` writes one to start from", file)]
    raise PlanError(problems or [Problem(1, "", "a plan is a mapping of keys to values, such as `name: my-plan`", file)])
