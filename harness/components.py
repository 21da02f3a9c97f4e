"""What a plugin may add: aligners, judges, metrics, sources and backends, and what each is given to work with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import Field

from .errors import StageError
from .options import (
    ENGINE_ARGUMENTS,
    AlignerConfig,
    GenerateOptions,
    LoraOptions,
    Options,
    TinyBase,
    TrainingConfig,
)
from .records import (
    Judgement,
    Likelihood,
    Observation,
    PairScore,
    Preference,
    Prompt,
    PromptRow,
    Sample,
    Score,
    SuiteRow,
    Usage,
)

if TYPE_CHECKING:
    import numpy as np

KINDS = ("model", "reward-model", "scoring-judge", "preferences", "prompts", "conversations")


class Component:
    """What every component has: a name that a plan uses, and a class of options."""

    name: ClassVar[str]
    Config: ClassVar[type[Options]] = Options


# --- data -----------------------------------------------------------------------------------------------------------------


class SourceConfig(Options):
    """Options that every source understands.

    `split` maps a name to its share of the conversation roots; the shares add up to at most 1. `limit` keeps that many rows
    of each split. Rows that a source or an aligner has to drop may be at most the share `max_dropped` of all rows.
    """

    split: dict[str, float] = Field(default_factory=dict, description="names and shares of the conversation roots")
    limit: int | None = Field(default=None, ge=1, description="keep the first so many rows of each split")
    max_dropped: float = Field(
        default=0.1, ge=0, le=1, description="the share of rows that may turn out bad before the run stops"
    )


@dataclass(frozen=True)
class Loaded:
    """What a source read: its good rows, and how many bad ones it dropped, by reason."""

    rows: Sequence[PromptRow]
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """One split of a source, as a stage or a suite gets it. `fingerprint` is the SHA-256 of its rows."""

    reference: str
    kind: str
    rows: tuple[PromptRow, ...]
    fingerprint: str
    dropped: Mapping[str, int] = field(default_factory=dict)
    max_dropped: float = 0.1


class Source(Component):
    """Reads rows from somewhere. `gives` is the kind of its rows."""

    Config: ClassVar[type[SourceConfig]] = SourceConfig
    gives: ClassVar[str] = "preferences"

    def missing(self, config: Any, folder: Path) -> str | None:
        """What keeps the rows from being read, in a sentence, as far as a look at file names tells; None otherwise.

        Asked when a plan is checked, so that a mistyped path is a problem of the plan; reads no data and asks no network.
        """
        return None

    def load(self, config: Any, folder: Path) -> Loaded:
        """All rows, in a fixed order. Relative paths count from `folder`, the plan's. Raises DataError."""
        raise NotImplementedError


# --- models ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Artifact:
    """A committed model in the store; `path` opens with `from_pretrained`. `reference` is what its KL is measured from."""

    name: str
    kind: str
    path: Path
    key: str
    reference: Artifact | None = None


class Memory:
    """How often a run has halved the token budget of its batches because the device ran out of memory.

    Results depend on it only by rounding. `on_halved` is told the reason.
    """

    def __init__(self) -> None:
        self.halvings = 0
        self.on_halved: Callable[[str], None] | None = None

    def share(self, tokens: int) -> int:
        """What is left of a budget of `tokens`."""
        return max(1, tokens >> self.halvings)

    def halve(self, tokens: int, held: int) -> None:
        """Halve all budgets from here on, until what is left of one of `tokens` is less than `held`, which did not fit."""
        before = self.share(tokens)
        while self.share(tokens) >= held:
            self.halvings += 1
        if self.on_halved is not None:
            self.on_halved(
                f"out of memory with {held} tokens in a batch: the token budget falls from {before} to {self.share(tokens)}"
            )


@dataclass(frozen=True)
class Compute:
    """Where and how numbers are computed: resolved once per run, the same for training and evaluation.

    Weights are fp32; `precision` bf16 means that matrix products are autocast.
    """

    device: str
    precision: Literal["fp32", "bf16"]
    threads: int
    memory: Memory = field(default_factory=Memory, compare=False, repr=False)


class StageContext:
    """What a running stage is given besides its options and inputs.

    Write the model into `output`, checkpoints into `checkpoints` (kept while the stage is unfinished, gone once it is
    committed), and scalars with `log`.
    """

    name: str
    seed: int
    compute: Compute
    output: Path
    checkpoints: Path

    def log(self, step: int, values: Mapping[str, float], total: int | None = None) -> None:
        """Record scalars at a step. Raises StageError for a NaN or infinite loss."""
        raise NotImplementedError

    def rewind(self, step: int) -> None:
        """Forget the scalars after `step`: training goes on from a checkpoint that was taken there."""
        raise NotImplementedError

    def note(self, text: str) -> None:
        """Tell the user something; it goes to standard error and into the run's events."""
        raise NotImplementedError

    def keep(self, what: str, identity: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """A folder of the store with what `build` wrote into it, once for every stage of this aligner that asks for the same.

        `identity` names all that it depends on besides the aligner's code, the libraries and the machine: keys of artifacts,
        fingerprints of data, options.
        """
        raise NotImplementedError


class Aligner(Component):
    """Trains one model from typed inputs.

    `takes` maps a slot to its kind: one of KINDS, several joined by " | ", with a final "?" where the slot may be left out.
    A slot of kind `prompts` also accepts preferences and conversations. One of kind `scoring-judge` is filled by a judge with
    its options, such as `reward: {judge: toy-truth}`. `gives` is the kind of model that comes out.
    """

    Config: ClassVar[type[AlignerConfig]] = AlignerConfig
    takes: ClassVar[Mapping[str, str]] = {"init": "model"}
    gives: ClassVar[str] = "model"

    def run(self, config: Any, inputs: Mapping[str, Any], context: StageContext) -> None:
        """Train, and save the model into `context.output`. `inputs` maps each slot to an Artifact, a Dataset or a Scorer.

        Must go on from `context.checkpoints` when there is a good one, to the same weights as an undisturbed run.
        Raises StageError for what the user can mend.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Generation:
    """One answer as a backend gives it; `token_ids` includes the stop token where there is one."""

    text: str
    token_ids: tuple[int, ...]
    finish: Literal["stop", "length"]


class Backend(Component):
    """Turns prompts into answers."""

    def generate(
        self, model: Artifact, prompts: Sequence[Prompt], options: GenerateOptions, seeds: Sequence[int], compute: Compute
    ) -> Sequence[Generation]:
        """One answer per prompt, in order. A prompt's answer depends on its seed and not on the prompts beside it."""
        raise NotImplementedError


# --- evaluation -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, for a judge."""

    prompt: Prompt
    candidate: str
    baseline: str


@dataclass(frozen=True)
class Verdict:
    """A judge's preference for the candidate in [0, 1], or None with the reason why there is none.

    `orders` are the fields of an Order each. `cost` is in dollars. A verdict is not `final` where another try may give a
    preference: it is never taken from the store, so that the next run asks again.
    """

    preference: float | None
    reason: str | None = None
    cost: float | None = None
    orders: tuple[Mapping[str, Any], ...] = ()
    usage: Usage | None = None
    final: bool = True


@dataclass(frozen=True)
class Rating:
    """A scoring judge's number for one answer with all there is to say of it; see Verdict and Score for the fields."""

    score: float | None
    reason: str | None = None
    parts: Mapping[str, float] | None = None
    cost: float | None = None
    usage: Usage | None = None
    final: bool = True


class Documents(Protocol):
    """JSON objects by their content's key. A dict is one; a run's are in its store."""

    def get(self, key: str, /) -> Mapping[str, Any] | None:
        """The object with this key, or None."""

    def __setitem__(self, key: str, document: Any, /) -> None:
        """Keep an object."""


def _nothing(*_: Any) -> None:
    """What a context does with what nobody listens to."""


@dataclass(frozen=True)
class JudgeContext:
    """What a judge is given besides its options and what it judges.

    `judge` is its name in the plan, `suite` the suite that is judged, where it is one. Relative paths in options count from
    `folder`, the plan's. `cache` keeps JSON objects under keys that say all that they depend on (64 hex digits); `note` tells
    the user something; `progress` is told how much of how much is done; `charge` is told how many calls were made and what
    they cost in dollars, None where that is not known.
    """

    compute: Compute
    judge: str = ""
    suite: str | None = None
    folder: Path = Path()
    cache: Documents = field(default_factory=dict[str, Any])
    note: Callable[[str], None] = _nothing
    progress: Callable[[int, int], None] = _nothing
    charge: Callable[[int, float | None], None] = _nothing


@dataclass(frozen=True)
class Workload:
    """How much a plan gives a judge to do: prompts by suite, how many pairs of models, how many models.

    `answer_tokens` is the longest answer. `canaries` are prompts of an audit by suite, one for each comparison that asks for
    something new, which is an answer of its own for a judge that scores.
    """

    prompts: Mapping[str, Sequence[Prompt]]
    comparisons: int
    models: int
    answer_tokens: int
    canaries: Mapping[str, Sequence[Prompt]] = field(default_factory=dict)


class Judge(Component):
    """Compares answers. `takes` maps option names to the kind of model that each one refers to, as for an aligner.

    One instance serves a whole run, so that it can count what it spends.
    """

    takes: ClassVar[Mapping[str, str]] = {}

    def check(self, config: Any, folder: Path, suites: Sequence[str]) -> Iterable[str]:
        """Problems of the options that only a look at files or at the plan's suites shows, as `option: text`.

        Asked when a plan is checked; asks no network.
        """
        return ()

    def caution(self, config: Any) -> str | None:
        """What the user should know before a run, in a sentence; None if nothing."""
        return None

    def fingerprint(self, config: Any, folder: Path) -> Mapping[str, Any]:
        """What its results depend on besides code, options and models, such as the contents of files. Raises UsageError."""
        return {}

    def forecast(self, config: Any, folder: Path, workload: Workload) -> str | None:
        """What judging would cost, in a sentence for `harness check`; None for a judge that costs nothing."""
        return None

    def compare(
        self, pairs: Sequence[Pair], config: Any, inputs: Mapping[str, Artifact], context: JudgeContext
    ) -> Sequence[Verdict]:
        """One verdict per pair, in order. What cannot be judged is unscored with a reason, never a tie."""
        raise NotImplementedError


class ScoringJudge(Judge):
    """A judge that gives each answer a number; the higher one wins and equal ones tie.

    `scale` is the least and the greatest number of a judge whose numbers mean something by themselves.
    """

    scale: ClassVar[tuple[float, float] | None] = None

    def score(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[str],
        config: Any,
        inputs: Mapping[str, Artifact],
        context: JudgeContext,
    ) -> Sequence[float | Rating | None]:
        """One score per answer, in order, whatever answers stand beside it; None where it has none.

        A Rating says more than a number: why there is none, and what it cost.
        """
        raise NotImplementedError

    def softness(self, config: Any) -> float | Literal["fit"] | None:
        """The temperature T of soft preferences, sigmoid((candidate - baseline) / T); "fit" takes the one that makes
        held-out preferences likeliest. None means that the higher score wins outright.
        """
        return None

    def ratings(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[str],
        config: Any,
        inputs: Mapping[str, Artifact],
        context: JudgeContext,
    ) -> list[Rating]:
        """What `score` says, each as a Rating. Raises StageError for what is no such list."""
        given = list(self.score(prompts, answers, config, inputs, context))
        ratings = [each if isinstance(each, Rating) else Rating(each) for each in given]
        if len(ratings) != len(answers):
            raise StageError(
                f"judge {self.name!r} gave {len(ratings)} scores for {len(answers)} answers; this is an error of its plugin"
            )
        if wrong := [each.score for each in ratings if each.score is not None and not math.isfinite(each.score)]:
            raise StageError(f"judge {self.name!r} gave an answer the score {wrong[0]}; this is an error of its plugin")
        return ratings


@dataclass(frozen=True)
class Scorer:
    """A scoring judge with its options and models, as a stage gets it in a slot of kind `scoring-judge`.

    `identity` says in a key all that its scores depend on, but for the machine. `context` makes what the judge is given.
    """

    name: str
    judge: ScoringJudge
    config: Any
    models: Mapping[str, Artifact]
    identity: Mapping[str, Any]
    context: Callable[[Compute], JudgeContext] = JudgeContext

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str], compute: Compute) -> list[float | None]:
        """One score per answer, in order; None where the judge has none. Raises StageError for what is no such list."""
        ratings = self.judge.ratings(prompts, answers, self.config, self.models, self.context(compute))
        return [each.score for each in ratings]


@dataclass(frozen=True)
class Evidence:
    """What a metric looks at: everything about one model on one suite, and about its baseline where there is one.

    Only the fields that the metric's `scope` names are filled; `baseline` is the model that judgements compare with.
    `reference_scores` are a scoring judge's scores of answers that people chose on other prompts, ascending. `scale` is the
    least and the greatest score of a judge whose scores mean something by themselves. It needs no reference.
    """

    model: str
    suite: str
    rows: Mapping[str, SuiteRow]
    samples: Sequence[Sample] = ()
    baseline_samples: Sequence[Sample] = ()
    judge: str | None = None
    baseline: str | None = None
    judgements: Sequence[Judgement] = ()
    scores: Sequence[Score] = ()
    baseline_scores: Sequence[Score] = ()
    reference_scores: Sequence[float] = ()
    scale: tuple[float, float] | None = None
    pairs: Sequence[PairScore] = ()
    likelihoods: Sequence[Likelihood] = ()
    baseline_likelihoods: Sequence[Likelihood] = ()

    def root(self, prompt_id: str) -> str:
        """The conversation root that a prompt belongs to; prompts with one root are resampled together."""
        return self.rows[prompt_id].root or prompt_id


@dataclass(frozen=True)
class Measure:
    """One number that a metric gives, under the name that estimates and gates use.

    `statistic` maps observations to the number where it is not their mean: it gets the observed values, shape
    (..., n), then one such array for each of the observations' covariates, and returns shape (...). `compare` adds the
    paired difference from the baseline. `better` says which direction is good, where one is. `null` is the value that means
    "no difference"; an exact sign test against it is added. `against` names the rule that a reward model is compared with,
    where observations hold its value. `instrument` names what reads the
    answers, where it is fallible and the metric's `validate` says how often it is right.
    """

    name: str
    unit: str
    better: Literal["higher", "lower"] | None = None
    compare: bool = True
    null: float | None = None
    against: str | None = None
    instrument: str | None = None
    statistic: Callable[..., np.ndarray] | None = None


class Metric(Component):
    """Turns evidence into observations, one per prompt; intervals are made by `harness.stats`, never here.

    `scope` says when it is asked: per model and suite with its `samples`; per judge, candidate and suite with `judgements`;
    per scoring judge, model and suite with `scores`; per judge of harm, model and suite with scores of the answers to unsafe
    prompts (`harm`); per model and suite of preferences with `likelihoods` of the chosen
    answers; per reward model and suite of preferences with `pairs`. A metric that is only right for answers sampled at temperature 1
    without top-p sets `needs_plain_sampling`, and other sampling is refused.
    """

    scope: ClassVar[Literal["samples", "judgements", "scores", "harm", "likelihoods", "pairs"]] = "samples"
    measures: ClassVar[tuple[Measure, ...]]
    needs_plain_sampling: ClassVar[bool] = False
    validation: ClassVar[tuple[Measure, ...]] = ()

    def validate(self) -> Iterable[Observation]:
        """How often the instrument that this metric reads answers with is right, on cases whose truth is known.

        Observations of the `validation` measures: `model` names the instrument, `suite` the cases. Their estimates stand beside
        the metric's in the report. Without such an instrument there are none.
        """
        return ()

    def problem(self, row: SuiteRow) -> str | None:
        """What keeps this metric from using a row of a packaged suite or a file, in a sentence; None where nothing does."""
        return None

    def observe(self, evidence: Evidence, config: Any) -> Iterable[Observation]:
        """Observations of this metric's measures. A prompt without a value is left out."""
        raise NotImplementedError


__all__ = [
    "ENGINE_ARGUMENTS",
    "KINDS",
    "Aligner",
    "AlignerConfig",
    "Artifact",
    "Backend",
    "Component",
    "Compute",
    "Dataset",
    "Documents",
    "Evidence",
    "GenerateOptions",
    "Generation",
    "Judge",
    "JudgeContext",
    "Loaded",
    "LoraOptions",
    "Measure",
    "Metric",
    "Options",
    "Pair",
    "Preference",
    "Rating",
    "Scorer",
    "ScoringJudge",
    "Source",
    "SourceConfig",
    "StageContext",
    "TinyBase",
    "TrainingConfig",
    "Verdict",
    "Workload",
]
