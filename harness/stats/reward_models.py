"""How well a reward model's margins (score of the chosen answer minus that of the rejected one) predict what people chose.

All functions of margins but the fit work elementwise or along the last axis, so that a bootstrap refits them. How margins
go with answer lengths is `spearman` of the margins and the differences in length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .clusters import Floats
from .fitted import expected_calibration_error
from .rates import wilson

BINS = 10
"""Equal-width bins over confidences from 0.5 to 1."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Pairs of similar confidence: its mean, the share ranked as people did, and that share's interval."""

    confidence: float
    correct: float
    low: float
    high: float
    n: int


def correct(margins: Floats, ties: Literal["half", "wrong", "drop"] = "half") -> Floats:
    """1 where the chosen answer scores higher, 0 where lower: (n,) -> (n,), or fewer if ties are dropped.

    A tie counts half (a coin would be right half the time), or as wrong (RewardBench, Lambert et al. 2024, arXiv
    2403.13787), or not at all. Accuracy is the mean.
    """
    if ties == "drop":
        margins = margins[margins != 0]
    return np.asarray(np.where(margins == 0, 0.5 if ties == "half" else 0.0, margins > 0), dtype=np.float64)


def preference_probability(margins: Floats, temperature: float = 1.0) -> Floats:
    """sigmoid(margin / temperature), the Bradley-Terry probability of the choice: (...) -> (...).

    At temperature 0 the greater score wins for certain, at infinity every pair is a coin; a tie is ½ at any. Raises
    ValueError for a negative temperature.
    """
    scaled = _scaled(margins, temperature)
    tails = np.exp(-np.abs(scaled))
    return np.asarray(np.where(scaled >= 0, 1.0, tails) / (1 + tails))


def negative_log_likelihood(margins: Floats, temperature: float = 1.0) -> Floats:
    """-log sigmoid(margin / temperature) of each choice, in nats: (...) -> (...). Infinite for a certain mistake."""
    scaled = _scaled(margins, temperature)
    return np.asarray(np.maximum(-scaled, 0.0) + np.log1p(np.exp(-np.abs(scaled))))


def brier(margins: Floats, temperature: float = 1.0) -> Floats:
    """(1 - sigmoid(margin / temperature))² of each choice (Brier 1950): (...) -> (...)."""
    return np.square(1 - preference_probability(margins, temperature))


def signed_confidence(margins: Floats, temperature: float = 1.0) -> Floats:
    """How sure of the better answer: sigmoid(|margin| / temperature), negative where people chose the other, 0 for a tie."""
    return np.asarray(np.sign(margins) * preference_probability(np.abs(margins), temperature))


def signed_calibration_error(signed: Floats) -> Floats:
    """Expected calibration error of `signed_confidence`, over BINS bins of confidences in [0.5, 1]: (..., n) -> (...).

    Σ_b |Σ_{i in b} (right - confidence)| / n (Guo et al. 2017, arXiv 1706.04599, equation 3); a tie has confidence 0.5 and
    is half right. Small samples push it upwards.
    """
    confidence = np.where(signed == 0, 0.5, np.abs(signed))
    right = np.where(signed == 0, 0.5, signed > 0)
    # No confidence is below one half, so that bins over [0, 1] are twice as many.
    return expected_calibration_error(confidence, right, bins=2 * BINS)


def reliability(margins: Floats, bins: int = BINS, level: float = 0.95) -> tuple[ReliabilityBin, ...]:
    """How often the answer that scores higher was chosen, by confidence sigmoid(|margin|), in equal bins from 0.5 to 1.

    Wilson intervals over pairs; a margin of 0 is no prediction and is left out, and so are empty bins.
    """
    margins = margins[margins != 0]
    confidence = preference_probability(np.abs(margins))
    which = np.minimum(((confidence - 0.5) * 2 * bins).astype(np.intp), bins - 1)
    found = []
    for number in np.unique(which):
        inside = which == number
        n, right = int(inside.sum()), int((margins[inside] > 0).sum())
        found.append(ReliabilityBin(float(confidence[inside].mean()), right / n, *wilson(right, n, level), n))
    return tuple(found)


def fit_temperature(margins: Floats) -> float:
    """The temperature T under which sigmoid(margin / T) makes held-out choices most likely (Guo et al. 2017, section 4.2).

    `margins` (n,). The mean of -log sigmoid(β·margin) is convex in β = 1 / T; its slope -mean(margin · sigmoid(-β·margin))
    is brought to 0 by Newton's steps, halved into the bracket where they leave it. Infinity where the margins are right
    no more than a coin by weight (their mean is not positive), 0 where no margin is wrong: the likelihood then rises for
    ever. Raises ValueError for no margins, or for one that is not finite.
    """
    if not len(margins) or not np.isfinite(margins).all():
        raise ValueError("a temperature is fitted to margins that are finite, at least one of them")
    scale = float(np.abs(margins).max())
    if scale == 0 or margins.mean() <= 0:
        return math.inf
    if margins.min() >= 0:
        return 0.0
    unit = margins / scale
    low, high = 0.0, 1.0
    while _slope(unit, high) < 0:
        low, high = high, 2 * high
    beta = (low + high) / 2
    for _ in range(200):
        slope = _slope(unit, beta)
        low, high = (beta, high) if slope < 0 else (low, beta)
        wrong = preference_probability(-beta * unit)
        curvature = float((np.square(unit) * wrong * (1 - wrong)).mean())
        step = beta - slope / curvature if curvature > 0 else math.inf
        following = step if low < step < high else (low + high) / 2
        if abs(following - beta) <= 1e-14 * beta:
            break
        beta = following
    return scale / beta


def _slope(margins: Floats, beta: float) -> float:
    return -float((margins * preference_probability(-beta * margins)).mean())


def _scaled(margins: Floats, temperature: float) -> Floats:
    if temperature < 0 or math.isnan(temperature):
        raise ValueError(f"a temperature of {temperature}")
    if temperature == 0:
        return np.asarray(np.where(margins == 0, 0.0, np.copysign(math.inf, margins)))
    return np.asarray(margins / temperature)
