"""How well a reward model predicts held-out preferences, and how honest its confidence is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from harness import Evidence, Measure, Metric, Observation, PairScore

if TYPE_CHECKING:
    import numpy as np

BINS = 10
"""Equal-width bins of the calibration error over confidences from 0.5 to 1."""


def calibration_error(signed: np.ndarray) -> np.ndarray:
    """Expected calibration error (Guo et al. 2017, arXiv:1706.04599, eq. 3) of signed confidences, (..., n) -> (...).

    A value is +confidence for a right prediction, -confidence for a wrong one and 0 for a tie, which has confidence 0.5 and
    is half right; confidences lie in [0.5, 1]. Sums over bins the share of pairs times |accuracy - confidence|, which is
    |sum of (right - confidence)| / n. Small samples push it upwards.
    """
    import numpy as np

    confidence = np.where(signed == 0, 0.5, np.abs(signed))
    excess = np.where(signed == 0, 0.5, signed > 0) - confidence
    bins = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
    gaps = [np.abs(np.where(bins == number, excess, 0.0).sum(axis=-1)) for number in range(BINS)]
    return np.asarray(np.sum(gaps, axis=0) / signed.shape[-1])


class Accuracy(Metric):
    """Agreement of a reward model with the people who chose, on pairs that it was not trained on.

    `accuracy` counts a tie as half. `accuracy-vs-shorter` and `accuracy-vs-longer` hold the same value, paired with that of
    a rule which looks at nothing but the lengths in characters; what remains above the better rule is not length.
    `accuracy-ceiling` is what the true preference probabilities allow the best of models, where they are known. `nll` and
    `brier` score sigmoid(margin), the Bradley-Terry probability of the observed choice; `ece` is `calibration_error`.
    """

    name = "accuracy"
    scope = "pairs"
    measures = (
        Measure(name="accuracy", unit="share of pairs", better="higher", compare=False, null=0.5),
        Measure(name="accuracy-vs-shorter", unit="share of pairs", better="higher", against="shorter-wins"),
        Measure(name="accuracy-vs-longer", unit="share of pairs", better="higher", against="longer-wins"),
        Measure(name="accuracy-ceiling", unit="share of pairs", compare=False),
        Measure(name="nll", unit="nats per pair", better="lower", compare=False),
        Measure(name="brier", unit="squared error", better="lower", compare=False),
        Measure(name="ece", unit="probability", better="lower", compare=False, statistic=calibration_error),
    )

    def observe(self, evidence: Evidence, config: Any) -> Iterator[Observation]:
        """Every value of each pair; the ceiling only of pairs whose probability is known."""
        for pair in evidence.pairs:
            for measure, (value, baseline) in _values(pair).items():
                yield Observation(
                    prompt_id=pair.prompt_id,
                    root=pair.root,
                    suite=evidence.suite,
                    model=evidence.model,
                    metric=measure,
                    value=value,
                    baseline_value=baseline,
                )


def _values(pair: PairScore) -> dict[str, tuple[float, float | None]]:
    """Measure to its value and, for the length rules, the rule's value."""
    margin = pair.chosen_score - pair.rejected_score
    right = _first_wins(pair.chosen_score, pair.rejected_score)
    longer = _first_wins(len(pair.chosen), len(pair.rejected))
    # exp only of what is not positive: a margin of -1000 must not overflow.
    tail = math.exp(-abs(margin))
    confidence = 1 / (1 + tail)
    probability = confidence if margin >= 0 else tail / (1 + tail)
    values: dict[str, tuple[float, float | None]] = {
        "accuracy": (right, None),
        "accuracy-vs-shorter": (right, 1 - longer),
        "accuracy-vs-longer": (right, longer),
        "nll": (max(-margin, 0.0) + math.log1p(tail), None),
        "brier": ((1 - probability) ** 2, None),
        "ece": (confidence * (2 * right - 1), None),
    }
    if pair.probability is not None:
        values["accuracy-ceiling"] = (max(pair.probability, 1 - pair.probability), None)
    return values


def _first_wins(first: float, second: float) -> float:
    """1 where the first is greater, 0.5 where they are equal, 0 where it is smaller."""
    return 1.0 if first > second else 0.5 if first == second else 0.0


__all__ = ["BINS", "Accuracy", "calibration_error"]
