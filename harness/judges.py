"""Judges: who compares or scores answers, what they are given, and what they say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from .components import Artifact, Component, Compute
from .errors import StageError
from .records import Prompt, Usage


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
    something new, which is an answer of its own for a judge that scores. `along` are the policies that are kept along a
    training, which judges that score are asked about on the first suite.
    """

    prompts: Mapping[str, Sequence[Prompt]]
    comparisons: int
    models: int
    answer_tokens: int
    canaries: Mapping[str, Sequence[Prompt]] = field(default_factory=dict)
    along: int = 0


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
