"""How well a reward model predicts held-out preferences, and how honest its confidence is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness import Evidence, Measure, Metric, Observation, PairScore

if TYPE_CHECKING:
    import numpy as np


def calibration_error(signed: np.ndarray) -> np.ndarray:
    """`harness.stats.signed_calibration_error`, imported when it is computed."""
    from harness import stats

    return stats.signed_calibration_error(signed)


def margin_length(margins: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """`harness.stats.pearson_of_pairs`, imported when it is computed."""
    from harness import stats

    return stats.pearson_of_pairs(margins, differences)


class Accuracy(Metric):
    """Agreement of a reward model with the people who chose, on pairs that it was not trained on.

    `accuracy` counts a tie as half. `accuracy-vs-shorter` and `accuracy-vs-longer` hold the same value, paired with that of
    a rule which looks at nothing but the lengths in characters; what remains above the better rule is not length.
    `accuracy-ceiling` is what the true preference probabilities allow the best of models, where they are known. `nll` and
    `brier` score sigmoid(margin), the Bradley-Terry probability of the observed choice; `ece` is the expected
    calibration error of the confidence that this gives the higher score. `margin-length` is the correlation of the margin
    with the difference in length, in characters, over both orders of each pair: above 0 the model prefers longer answers.
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
        Measure(name="margin-length", unit="correlation", compare=False, statistic=margin_length),
    )

    def observe(self, evidence: Evidence, config: Any) -> Iterator[Observation]:
        """Every value of each pair; the ceiling only of pairs whose probability is known."""
        values = _values(evidence.pairs)
        lengths = [float(len(pair.chosen) - len(pair.rejected)) for pair in evidence.pairs]
        for place, pair in enumerate(evidence.pairs):
            for measure, (value, baseline) in values.items():
                if math.isfinite(value[place]):
                    yield Observation(
                        prompt_id=pair.prompt_id,
                        root=pair.root,
                        suite=evidence.suite,
                        model=evidence.model,
                        metric=measure,
                        value=float(value[place]),
                        baseline_value=None if baseline is None else float(baseline[place]),
                        covariates=(lengths[place],) if measure == "margin-length" else (),
                    )


def _values(pairs: Sequence[PairScore]) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Measure to its values (n,), NaN where a pair has none, and for the length rules the rule's values."""
    import numpy as np

    from harness import stats

    margins = np.array([pair.chosen_score - pair.rejected_score for pair in pairs])
    longer = stats.correct(np.array([float(len(pair.chosen) - len(pair.rejected)) for pair in pairs]))
    truth = np.array([np.nan if pair.probability is None else pair.probability for pair in pairs])
    right = stats.correct(margins)
    return {
        "accuracy": (right, None),
        "accuracy-vs-shorter": (right, 1 - longer),
        "accuracy-vs-longer": (right, longer),
        "accuracy-ceiling": (np.maximum(truth, 1 - truth), None),
        "nll": (stats.negative_log_likelihood(margins), None),
        "brier": (stats.brier(margins), None),
        "ece": (stats.signed_confidence(margins), None),
        "margin-length": (margins, None),
    }


__all__ = ["Accuracy"]
