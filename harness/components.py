"""Sources, aligners and backends, which plugins may add like judges and metrics, and what each is given to work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from .options import (
    ENGINE_ARGUMENTS,
    AlignerConfig,
    GenerateOptions,
    LoraOptions,
    Options,
    TinyBase,
    TrainingConfig,
)
from .records import Preference, Prompt, PromptRow

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
    """What a source read: its good rows, and how many bad ones it dropped, by reason.

    `examples` says where the first bad row of a reason stands and what is wrong with it. `unread` names the columns that hold
    something and are not read.
    """

    rows: Sequence[PromptRow]
    dropped: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """One split of a source, as a stage or a suite gets it. `fingerprint` is the SHA-256 of its rows; `unread` as `Loaded` has it."""

    reference: str
    kind: str
    rows: tuple[PromptRow, ...]
    fingerprint: str
    dropped: Mapping[str, int] = field(default_factory=dict)
    max_dropped: float = 0.1
    unread: tuple[str, ...] = ()


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

    Weights are fp32; `precision` bf16 means that matrix products are autocast. With `trust_remote_code` the code that a model's
    folder brings is run.
    """

    device: str
    precision: Literal["fp32", "bf16"]
    threads: int
    trust_remote_code: bool = False
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
        """Tell the user something, once in a run; it goes to standard error and into the run's events."""
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
    "GenerateOptions",
    "Generation",
    "Loaded",
    "LoraOptions",
    "Options",
    "Preference",
    "Source",
    "SourceConfig",
    "StageContext",
    "TinyBase",
    "TrainingConfig",
]
