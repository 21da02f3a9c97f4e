"""From the checks of a suite row to functions of an answer, and what is wrong with a check that is none."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness import SuiteRow

from . import checks

_QUOTES = str.maketrans({**dict.fromkeys("‘’ʼ", "'"), **dict.fromkeys("“”„", '"')})
_VERBATIM = {"json"}
"""Kinds to which typographic quotes are what they are: a plain one would end a string of JSON."""

KINDS: Mapping[str, Callable[..., bool]] = {
    name.replace("_", "-"): function
    for name, function in vars(checks).items()
    if inspect.isfunction(function) and function.__module__ == checks.__name__ and not name.startswith("_")
}
"""Every kind of check by its name in a suite: `word-length` is `checks.word_length`."""


def follows(answer: str, row: SuiteRow) -> bool:
    """Whether an answer passes every check of a row. Raises ValueError for a check that is none."""
    return all(_parsed(each.kind, each.parameters)(answer.strip()) for each in row.checks)


def problem(row: SuiteRow) -> str | None:
    """What is wrong with the first bad check of a row, in a sentence; None where all are right."""
    for each in row.checks:
        try:
            _parsed(each.kind, each.parameters)("")
        except ValueError as error:
            return str(error)
    return None


def _parsed(kind: str, parameters: Mapping[str, Any]) -> Callable[[str], bool]:
    if kind not in KINDS:
        raise ValueError(f"unknown check {kind!r}{_hint(kind, KINDS)}")
    adapters, required = _signature(kind)
    for name in parameters:
        if name not in adapters:
            raise ValueError(f"check {kind!r}: unknown parameter {name!r}{_hint(name, adapters)}")
    if missing := [name for name in required if name not in parameters]:
        raise ValueError(f"check {kind!r}: the parameter {missing[0]!r} is missing")
    values = {}
    for name, value in parameters.items():
        try:
            values[name] = adapters[name].validate_python(value, strict=True)
        except ValidationError as error:
            text = error.errors()[0]["msg"]
            raise ValueError(f"check {kind!r}: {name}: {text[0].lower()}{text[1:]}, not {value!r}") from None

    plain = {name: value if kind in _VERBATIM else _plain(value) for name, value in values.items()}

    def check(answer: str) -> bool:
        try:
            return KINDS[kind](answer if kind in _VERBATIM else _plain(answer), **plain)
        except ValueError as error:
            raise ValueError(f"check {kind!r}: {error}") from None

    return check


def _plain(value: Any) -> Any:
    """The same with plain quotes: a text, a list of texts, or what is neither."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.translate(_QUOTES) if isinstance(value, str) else value


@cache
def _signature(kind: str) -> tuple[dict[str, TypeAdapter[Any]], list[str]]:
    """How each parameter of a kind is validated, and which ones it needs."""
    hints = typing.get_type_hints(KINDS[kind], include_extras=True)
    found = list(inspect.signature(KINDS[kind]).parameters.values())[1:]
    adapters = {each.name: TypeAdapter(hints[each.name]) for each in found}
    return adapters, [each.name for each in found if each.default is inspect.Parameter.empty]


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"


__all__ = ["KINDS", "follows", "problem"]
