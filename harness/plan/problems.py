"""Collecting the problems of a plan while it is resolved, each in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import hint
from ..options import no_such_value

if TYPE_CHECKING:
    from ..errors import Problem
    from ..plugins import Entry, Registry
    from .document import Document

M = TypeVar("M", bound=BaseModel)
Where = Sequence[str | int]


class Problems:
    """The problems that were found so far; each method returns what could be resolved all the same."""

    def __init__(self, document: Document, registry: Registry) -> None:
        self.document = document
        self.registry = registry
        self.found: list[Problem] = [*document.problems, *document.not_finite()]

    def add(self, path: Where, text: str) -> None:
        """Note a problem at a path of the plan."""
        self.found.append(self.document.problem(path, text))

    def validated(self, kind: type[M], values: Any, path: Where) -> M | None:
        """An instance of a pydantic model, or None with every problem noted.

        What a validator of the whole says about one of its options, as `option: text`, is noted at that option.
        """
        try:
            return kind.model_validate(values)
        except ValidationError as error:
            for each in error.errors():
                if each["type"] != "finite_number":  # found before, with those that no model looks at
                    place, text = location(each, values), _sentence(each, kind)
                    option, colon, rest = text.partition(": ")
                    if not place and colon and option in kind.model_fields:
                        place, text = [option], rest
                    self.add((*path, *place), text)
            return None

    def component(self, kind: str, values: Mapping[str, Any], path: Where) -> Entry | None:
        """The component that the key `kind` of a mapping names, or None with the problem noted."""
        if values.get(kind) is None:
            self.add(path, f"`{kind}` is missing; there are {', '.join(self.registry.names(kind))}")
            return None
        return self.named(kind, values[kind], (*path, kind))

    def named(self, kind: str, name: object, path: Where) -> Entry | None:
        """The component of that kind and name, or None with the problem noted."""
        entry = self.registry.get(kind, name) if isinstance(name, str) else None
        if entry is None:
            self.unknown(kind, name, self.registry.names(kind), path)
        return entry

    def unknown(self, kind: str, name: object, known: Iterable[str], path: Where) -> None:
        """Note that no plugin brings what a name should mean; one that could not be loaded, or was left out, may be why."""
        broken = "".join(f"; plugin {p.name!r} could not be loaded ({p.error})" for p in self.registry.broken)
        left = "".join(f"; plugin {each!r}, which may bring it, was left out" for each in self.registry.left_out)
        self.add(path, f"unknown {kind} {name!r}{hint(name, known)}{broken}{left}")


def location(error: Mapping[str, Any], values: Any) -> list[str | int]:
    """Where the value that pydantic complains about stands: its own words for keys and union members are left out."""
    kept: list[str | int] = []
    for part in error["loc"]:
        if (isinstance(values, Mapping) and part in values) or (isinstance(values, list) and isinstance(part, int)):
            kept.append(part)
            values = values[part]
    if error["type"] == "missing":
        kept.append(error["loc"][-1])
    return kept


def _sentence(error: Mapping[str, Any], kind: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown option{hint(error['loc'][-1], getattr(_at(kind, error['loc'][:-1]), 'model_fields', ()))}"
    if error["type"] == "missing":
        return "is missing"
    text = str(error["msg"]).removeprefix("Value error, ")
    text = text[0].lower() + text[1:]
    value = error.get("input")
    if error["type"] == "too_short":
        least, given = error["ctx"]["min_length"], error["ctx"]["actual_length"]
        return f"needs at least {least}, not {given}" if given else "is empty; name at least one"
    if error["type"] == "literal_error" and isinstance(value, str):
        return no_such_value(error)
    if error["type"] in {"dict_type", "model_type"}:
        if value is True and _has_defaults(_at(kind, error["loc"])):
            return f"expected a mapping, not True; write `{error['loc'][-1]}: {{}}` for the defaults"
        text = "expected a mapping"
    if error["type"] == "string_type" and isinstance(value, int | float):
        text += f", not {value!r}; put it in quotes"
    if value is None:
        return f"is empty: {text}"
    return f"{text}, not {value!r}" if isinstance(value, str | int | float | bool) and repr(value) not in text else text


def _at(kind: Any, where: Iterable[str | int]) -> Any:
    """The model that a location leads to, as far as it can be followed."""
    for part in where:
        field = getattr(kind, "model_fields", {}).get(part)
        if field is not None:
            kind = field.annotation
        kind = next(_models(kind), kind)
    return kind


def _has_defaults(kind: Any) -> bool:
    """Whether a model needs none of its options."""
    try:
        return bool(kind.model_validate({}))
    except (AttributeError, ValidationError):
        return False


def _models(kind: Any) -> Iterator[Any]:
    """The models in a type such as `dict[str, Suite]`, `TinyBase | None` or an annotated one."""
    if hasattr(kind, "model_fields"):
        yield kind
    for each in getattr(kind, "__args__", ()):
        yield from _models(each)
