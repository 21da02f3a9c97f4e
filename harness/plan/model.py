"""The plan as typed values. What depends on plugins (sources, stages, judges) stays a mapping here; `check` resolves it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema, field_validator, model_validator

from ..components import GenerateOptions, Options

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}"
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


def _name(text: str) -> str:
    if not re.fullmatch(NAME, text):
        raise ValueError(f"{text!r} is no name; use up to 80 letters, digits, '-', '_' and '.', a letter or digit first")
    return text


Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME}$"})]


def _bound(text: str) -> str:
    if not re.fullmatch(r"\s*(>=|<=|>|<)\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", text):
        raise ValueError(f'{text!r} is not a bound; write one such as ">= 0.65"')
    return text.strip()


Bound = Annotated[str, AfterValidator(_bound)]


class Section(Options):
    """A part of a plan. An option with nothing after its key is an option left out, unless it has no default."""

    @model_validator(mode="before")
    @classmethod
    def _left_out(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {key: value for key, value in values.items() if value is not None or key not in optional}


class Gate(Section):
    """A requirement on one estimate: its value, or an end of its interval, against a bound such as ">= 0.65"."""

    model: Name
    metric: str
    judge: str | None = None
    suite: str | None = None
    baseline: str | None = None
    value: Bound | None = None
    low: Bound | None = None
    high: Bound | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Gate:
        if len(self.bounds()) != 1:
            raise ValueError("a gate compares exactly one of `value`, `low` and `high`")
        return self

    def bounds(self) -> dict[str, str]:
        """The part of the estimate that is compared, and its bound."""
        return {part: bound for part in ("value", "low", "high") if (bound := getattr(self, part)) is not None}

    def holds(self, estimate: Any) -> bool:
        """Whether an estimate meets the bound."""
        ((part, bound),) = self.bounds().items()
        comparison = next(each for each in _COMPARISONS if bound.startswith(each))
        return _COMPARISONS[comparison](getattr(estimate, part), float(bound.removeprefix(comparison)))

    def __str__(self) -> str:
        ((part, bound),) = self.bounds().items()
        where = "".join(f", {key} {value}" for key in ("judge", "suite", "baseline") if (value := getattr(self, key)))
        return f"{self.model} {self.metric}{where}: {part} {bound}"


class TinyBase(Section):
    """A fresh Llama-architecture model with a tokenizer trained on the plan's data."""

    type: Literal["tiny"]
    hidden_size: int = Field(default=128, ge=8)
    num_hidden_layers: int = Field(default=3, ge=1)
    num_attention_heads: int = Field(default=4, ge=1)
    intermediate_size: int = Field(default=384, ge=8)
    vocab_size: int = Field(default=1024, ge=300)
    max_position_embeddings: int = Field(default=512, ge=32)

    @model_validator(mode="after")
    def _heads(self) -> TinyBase:
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError("hidden_size must be a multiple of twice num_attention_heads")
        return self


def _base_kind(value: object) -> str:
    return "tiny" if isinstance(value, Mapping | TinyBase) else "name"


Base = Annotated[Annotated[str, Tag("name")] | Annotated[TinyBase, Tag("tiny")], Discriminator(_base_kind)]


class Suite(Section):
    """Prompts that every model answers: from a split of the plan's data, a packaged suite, or a JSON-lines file."""

    data: str | None = None
    suite: str | None = None
    path: str | None = None
    limit: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_origin(self) -> Suite:
        if sum(origin is not None for origin in (self.data, self.suite, self.path)) != 1:
            raise ValueError("a suite comes from exactly one of `data`, `suite` (packaged) and `path`")
        return self


class Bootstrap(Section):
    """How intervals are made."""

    resamples: int = Field(default=10_000, ge=100, le=1_000_000)
    level: float = Field(default=0.95, gt=0.5, lt=1)


class Evaluate(Section):
    """What is measured, on what, against what, by whom. `reference` names preferences whose chosen answers set a scale."""

    baseline: Name
    candidates: list[Name] = Field(min_length=1)
    suites: dict[Name, Suite] = Field(min_length=1)
    generate: GenerateOptions = GenerateOptions()
    judges: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    metrics: list[str] = Field(min_length=1)
    reference: str | None = None
    bootstrap: Bootstrap = Bootstrap()

    @field_validator("candidates", "metrics")
    @classmethod
    def _unique(cls, values: list[str]) -> list[str]:
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"{', '.join(map(repr, twice))} stands twice")
        return values


class Report(Section):
    """How the report is headed."""

    title: str | None = None


class Plan(Section):
    """A plan: one starting model, data, the stages that train on it, and how they are compared."""

    name: Name
    seed: int = Field(default=0, ge=0, lt=2**31)
    base: Base
    revision: str | None = None
    trust_remote_code: bool = False
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int | None = Field(default=None, ge=1, le=1024)
    data: dict[Name, dict[str, Any]] = Field(min_length=1)
    stages: dict[Name, dict[str, Any]] = Field(min_length=1)
    sweep: dict[str, list[Any]] = Field(default_factory=dict)
    evaluate: Evaluate | None = None
    require: list[Gate] = Field(default_factory=list)
    report: Report = Report()
