"""Metrics: what they see of an evaluation, and the numbers that they make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .components import Component
from .records import Judgement, Likelihood, Observation, PairScore, Sample, Score, SuiteRow

if TYPE_CHECKING:
    import numpy as np


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
