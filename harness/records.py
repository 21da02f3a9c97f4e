"""The records that cross a file boundary, one JSON object a line, validated where they are read."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from .errors import UsageError

Probability = Annotated[float, Field(ge=0, le=1)]
Identity = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""What tells prompts apart: text, for which an integer stands too."""


class Record(BaseModel):
    """A frozen record; unknown fields, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


R = TypeVar("R", bound=Record)


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


Prompt = tuple[Message, ...]


def root_of(prompt: Prompt) -> str:
    """What groups the prompts of one conversation: its first user turn."""
    return next((message.content for message in prompt if message.role == "user"), prompt[0].content)


class PromptRow(Record):
    """A conversation that waits for its next answer. `root` groups rows that share their first human turn."""

    id: str
    root: str
    prompt: Prompt
    category: str | None = None
    expect: Literal["answer", "refuse"] | None = None


class Conversation(PromptRow):
    """A prompt and the answer that a model should learn to give."""

    answer: str


class Preference(PromptRow):
    """Two answers to one prompt, and which one was preferred.

    `margin` is how much better the chosen one is, where the annotator said so. `probability` is the true probability that
    `chosen` is the preferred one, known only where the data was drawn from a known preference model.
    """

    chosen: str
    rejected: str
    margin: float | None = None
    probability: Probability | None = None


class Check(Record):
    """One instruction that a program can check: its kind, and the parameters of that kind beside it.

    Which kinds there are is a metric's business (`Metric.problem`).
    """

    model_config = ConfigDict(extra="allow")
    kind: str

    @property
    def parameters(self) -> dict[str, Any]:
        """What the kind needs to know."""
        return dict(self.model_extra or {})


class SuiteRow(Record):
    """One prompt that every model answers. `checks` are what an answer that follows the prompt must pass."""

    id: Identity = Field(
        default="", description="tells prompts apart, integers too; `row-` and the row's number, where left out"
    )
    prompt: str | Prompt = Field(
        description="what is answered; chat messages, with `role` and `content`, end with the user's"
    )
    category: str | None = Field(default=None, description="what `slices: [category]` parts by")
    expect: Literal["answer", "refuse"] | None = Field(
        default=None, description="what a good model does; safety counts by it"
    )
    root: Identity | None = Field(
        default=None, description="groups prompts that are no independent ones, such as turns of one conversation"
    )
    checks: tuple[Check, ...] = Field(
        default=(), description="[instructions that a program can check](metrics.md#instructions-that-a-program-can-check)"
    )

    def messages(self) -> Prompt:
        """The prompt as chat messages; plain text is one user turn."""
        return (Message(role="user", content=self.prompt),) if isinstance(self.prompt, str) else self.prompt


class Sample(Record):
    """One model's answer to one prompt of a suite.

    `tokens` counts the answer's tokens, its stop token included. `logprob` and `ref_logprob` are sums over them, in nats,
    under the model that wrote the answer and under its reference. `kl` is the exact KL divergence from the reference, summed
    over the answer's positions; `kl_k3` is Schulman's k3 estimate of it, summed likewise. Fields about the reference are
    null for a model that has none. `best_of` is how many answers this one was the best of, where a reward model chose it; its
    log-probability is then that of a single answer, and its divergence is not known.
    """

    prompt_id: str
    suite: str
    model: str
    prompt: Prompt
    answer: str
    finish: Literal["stop", "length"]
    tokens: int
    logprob: float
    ref_logprob: float | None = None
    kl: float | None = None
    kl_k3: float | None = None
    seed: int
    best_of: int | None = None


class Usage(Record):
    """What a paid judge read and wrote for one judgement or score: the model as its API names it, tokens, and their price.

    Tokens are null where the API did not count them. Prices are dollars for a million tokens, null where not known.
    """

    model: str
    replies: int
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_price: float | None = None
    output_price: float | None = None


class Score(Record):
    """A scoring judge's number for one sample, or null with the reason why there is none.

    `parts` are the numbers that it is made of, by criterion. `cost` is in dollars, as a judgement's.
    """

    prompt_id: str
    suite: str
    judge: str
    model: str
    score: float | None
    reason: str | None = None
    parts: dict[str, float] | None = None
    cost: float | None = None
    usage: Usage | None = None


class Likelihood(Record):
    """What a model makes of the answer that people chose for one prompt: its log-probability, in nats, summed over its tokens.

    The stop token is one of them.
    """

    prompt_id: str
    suite: str
    model: str
    tokens: int
    logprob: float


class PairScore(Record):
    """A reward model's scores for both answers of one held-out preference."""

    prompt_id: str
    root: str
    suite: str
    model: str
    prompt: Prompt
    chosen: str
    rejected: str
    chosen_score: float
    rejected_score: float
    probability: Probability | None = None


class Order(Record):
    """One presentation of a pair to a judge that reads them in an order."""

    first: Literal["candidate", "baseline"]
    preference: Probability | None


class Judgement(Record):
    """A judge's preference between two samples of one prompt: 1 for the candidate, 0.5 a tie, null unscored.

    `cost` is what its replies cost when they were asked, in dollars; null where that is not known.
    """

    prompt_id: Identity
    suite: str
    judge: str
    candidate: str
    baseline: str
    preference: Probability | None
    orders: tuple[Order, ...] = ()
    reason: str | None = None
    candidate_length: int
    baseline_length: int
    cost: float | None = None
    usage: Usage | None = None


class Observation(Record):
    """One metric's value for one model on one prompt, and the baseline's value on the same prompt where it has one.

    `baseline` is the model that a judgement compared with; null where the value is of the model alone.
    `training_seed` tells the models of several training seeds apart; null where a model was trained once.
    `covariates` are further numbers that a fitted statistic needs of the prompt, such as a difference of lengths, and
    `baseline_covariates` those that go with the baseline's value.
    """

    prompt_id: str
    root: str
    suite: str
    model: str
    metric: str
    judge: str | None = None
    baseline: str | None = None
    training_seed: int | None = None
    value: float
    baseline_value: float | None = None
    covariates: tuple[float, ...] = ()
    baseline_covariates: tuple[float, ...] = ()


class Estimate(Record):
    """A statistic over observations with its interval. Only `harness.stats` makes them.

    Unique by model, metric, judge, suite and baseline. `n` counts observations, `clusters` the groups of prompts that were
    resampled together. With a baseline the value compares the two models on the same prompts. `resamples` is how many
    bootstrap resamples were made, null where the method makes none. `p_adjusted` is the p-value by Holm's method over all
    comparisons by the same judge on the same suite, null where the number is none of them.

    Over several training seeds, of which there are `seeds`, `value` is their mean, and the interval is for other seeds as
    well as other prompts. `seed_error` is the standard error that the seeds alone would give, `prompt_error` the one that the
    prompts alone would. `n` counts the observations of all seeds.
    """

    model: str
    metric: str
    judge: str | None = None
    suite: str
    baseline: str | None = None
    value: float
    standard_error: float | None
    low: float
    high: float
    level: Probability
    n: int
    clusters: int
    method: str
    unit: str
    seed: int
    p_value: Probability | None = None
    p_adjusted: Probability | None = None
    resamples: int | None = None
    seeds: int | None = None
    seed_error: float | None = None
    prompt_error: float | None = None


class SeedEstimate(Estimate):
    """An estimate of the models of one training seed. It stands apart from the estimates, which are over all seeds."""

    training_seed: int


class SliceEstimate(Estimate):
    """An estimate over the prompts of one slice of its suite, such as one category.

    It stands apart from the estimates, so that no requirement and no verdict takes a part for the whole. Unique by dimension,
    slice, model, metric, judge, suite and baseline. Here `p_adjusted` is the p-value by Benjamini and Hochberg's method
    over all slices of its metric.
    """

    dimension: str
    slice: str


class HealthVerdict(Record):
    """What a health rule says of a stage: the value that was seen, the bound that a healthy stage keeps, and what to do.

    `step` is where training was when it showed; null where it rests on the evaluation. A `note` is nothing to worry about.
    """

    stage: str
    rule: str
    level: Literal["warning", "note"]
    step: int | None
    value: float
    threshold: str
    text: str
    advice: str


def read_records(path: Path, kind: type[R]) -> list[R]:
    """Validated records of a JSON-lines file. Raises UsageError as `numbered_records` does."""
    lines = [line for line in path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n") if line.strip()]
    try:
        # All at once takes half the time of one by one.
        records: list[R] = _list_of(kind).validate_json(b"[" + b",".join(lines) + b"]")
    except ValidationError:
        records = []
    return records if len(records) == len(lines) else [record for _, record in numbered_records(path, kind)]


@cache
def _list_of(kind: type[R]) -> TypeAdapter[list[R]]:
    return TypeAdapter(list[kind])  # type: ignore[valid-type]


def numbered_records(path: Path, kind: type[R]) -> Iterator[tuple[int, R]]:
    """Validated records of a JSON-lines file, with the lines that they stand on. A byte order mark is no part of the first.

    Raises UsageError with file, line and field for the first line that is not such a record.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            try:
                yield number, kind.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(map(str, first["loc"]))
                text = f"{path}:{number}: {field}: {first['msg']}" if field else f"{path}:{number}: {first['msg']}"
                name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__).lower()
                raise UsageError(f"{text}; expected a {name}{'' if name.endswith(' row') else ' record'}") from None


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON lines, whole or not at all."""
    write_text(path, "".join(record.model_dump_json(exclude_none=False) + "\n" for record in records))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: a reader sees the old file or the new one, never a part, and nothing else is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Write one JSON document atomically; NaN and infinity are refused with ValueError."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
