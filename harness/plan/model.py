"""The plan as typed values. What depends on plugins (sources, stages, judges) stays a mapping here; `check` resolves it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from ..components import GenerateOptions, Options, TinyBase

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


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f'expected a bound such as ">= 0.65", not {value}')
    if isinstance(value, int | float):
        raise ValueError(f'is no bound yet; write ">= {value}" or "<= {value}"')
    return value


Bound = Annotated[str, BeforeValidator(_number), AfterValidator(_bound)]


def split_bound(bound: str) -> tuple[str, float]:
    """The comparison of a bound, and the number."""
    sign = next(each for each in _COMPARISONS if bound.startswith(each))
    return sign, float(bound.removeprefix(sign))


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

    model: Name = Field(description="a stage; a judge, for what an audit measures of it")
    metric: str = Field(description="one number's name")
    judge: str | None = Field(default=None, description="needed where several judges give the number")
    suite: str | None = Field(default=None, description="needed where several suites give the number")
    baseline: str | None = Field(default=None, description="means the comparison with that model, not the level")
    value: Bound | None = Field(default=None, description="a bound on the value, such as >= 0.65")
    low: Bound | None = Field(default=None, description="a bound on the interval's lower end")
    high: Bound | None = Field(default=None, description="a bound on the interval's upper end")

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
        comparison, limit = split_bound(bound)
        return _COMPARISONS[comparison](getattr(estimate, part), limit)

    def __str__(self) -> str:
        ((part, bound),) = self.bounds().items()
        where = "".join(f", {key} {value}" for key in ("judge", "suite", "baseline") if (value := getattr(self, key)))
        return f"{self.model} {self.metric}{where}: {part} {bound}"


def _base_kind(value: object) -> str:
    return "tiny" if isinstance(value, Mapping | TinyBase) else "name"


Base = Annotated[Annotated[str, Tag("name")] | Annotated[TinyBase, Tag("tiny")], Discriminator(_base_kind)]


class Suite(Section):
    """Prompts that every model answers: from a split of the plan's data, a packaged suite, or a JSON-lines or CSV file."""

    data: str | None = Field(default=None, description="a data reference, such as hh.test")
    suite: str | None = Field(default=None, description="the name of a packaged suite")
    path: str | None = Field(default=None, description="a file of suite rows, relative to the plan")
    limit: int | None = Field(default=None, ge=1, description="use the first so many prompts")

    @model_validator(mode="after")
    def _one_origin(self) -> Suite:
        if sum(origin is not None for origin in (self.data, self.suite, self.path)) != 1:
            raise ValueError("a suite comes from exactly one of `data`, `suite` (packaged) and `path`")
        return self


class Bootstrap(Section):
    """How intervals are made."""

    resamples: int = Field(default=10_000, ge=100, le=1_000_000, description="how often clusters of prompts are resampled")
    level: float = Field(default=0.95, gt=0.5, lt=1, description="the confidence level of every interval")


class BestOfN(Section):
    """A candidate that answers with the best of n answers of a model, by a reward model."""

    model: Name = Field(description="the model that answers")
    reward: Name = Field(description="the reward model that chooses; a judge that uses it is circular")
    n: int = Field(ge=2, le=1024, description="how many answers there are to choose from")


class Evaluate(Section):
    """What is measured, on what, against what, by whom. `reference` names preferences whose chosen answers set a scale."""

    baseline: Name = Field(description="the model that candidates are compared with")
    candidates: list[Name] = Field(min_length=1, description="the models to compare")
    best_of_n: dict[Name, BestOfN] = Field(
        default_factory=dict, description="more models to name as candidates: the best of n answers, by a reward model"
    )
    compare: Literal["baseline", "all"] = Field(
        default="baseline", description="judges compare each candidate with the baseline only, or every two models"
    )
    suites: dict[Name, Suite] = Field(min_length=1, description="the prompts that every model answers, by name")
    generate: GenerateOptions = Field(default_factory=GenerateOptions, description="how answers are sampled")
    judges: dict[Name, dict[str, Any]] = Field(default_factory=dict, description="who compares answers, by name")
    harm: dict[Name, dict[str, Any]] = Field(
        default_factory=dict,
        description="judges that score how far an answer to an unsafe prompt complies, by name; they compare no answers",
    )
    human: str | None = Field(
        default=None,
        description="a file of judgement lines by people, relative to the plan; judges are measured against it",
    )
    metrics: list[str] = Field(min_length=1, description="metrics, or single measures of them")
    slices: list[Literal["category", "length", "turns", "checks"]] = Field(
        default_factory=list,
        description="estimate each part of a suite, too: by category, prompt length, number of turns, kind of check",
    )
    reference: str | None = Field(
        default=None,
        description="preferences whose chosen answers are the scale of helpfulness; a stage's valid, where left out",
    )
    bootstrap: Bootstrap = Field(default_factory=Bootstrap, description="how intervals are made")

    @field_validator("candidates", "metrics", "slices")
    @classmethod
    def _unique(cls, values: list[str]) -> list[str]:
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"{', '.join(map(repr, twice))} stands twice")
        return values


class Report(Section):
    """How the report is headed."""

    title: str | None = Field(default=None, description="the headline; the plan's name, where left out")


class Plan(Section):
    """A plan: one starting model, data, the stages that train on it, and how they are compared."""

    name: Name = Field(description="names the run folder and the report")
    seed: int = Field(default=0, ge=0, lt=2**31, description="of splits, training, sampling and the bootstrap")
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        default_factory=list,
        description="train every stage once with each of these seeds; `seed`, where left out",
    )
    base: Base = Field(
        description="the starting model: a Hub id or a folder, of a model or an adapter, package://PACKAGE/file.gguf, or a tiny base"
    )
    revision: str | None = Field(default=None, description="of a Hub id; pin it for a run that others can repeat")
    trust_remote_code: bool = Field(default=False, description="let the base bring code of its own")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto is CUDA where torch and the driver have it"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="weights are fp32; bf16 autocasts matrix products; auto is bf16 where that is faster"
    )
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="of torch on the processor; every core, where left out"
    )
    health: Literal["warn", "stop"] = Field(
        default="warn", description="what a health rule's warning does while a stage trains: it is told, or ends the stage"
    )
    data: dict[Name, dict[str, Any]] = Field(min_length=1, description="data sets by name")
    stages: dict[Name, dict[str, Any]] = Field(min_length=1, description="what is trained, by name")
    sweep: dict[str, list[Any]] = Field(default_factory=dict, description="STAGE.OPTION to the values that it takes")
    evaluate: Evaluate | None = Field(default=None, description="what is compared, and how")
    require: list[Gate] = Field(
        default_factory=list, description="what the estimates must meet, or the run ends with status 3"
    )
    report: Report = Report()

    @field_validator("seeds")
    @classmethod
    def _different(cls, values: list[int]) -> list[int]:
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise ValueError(f"{', '.join(map(str, twice))} stands twice; the same seed trains the same model")
        return values
