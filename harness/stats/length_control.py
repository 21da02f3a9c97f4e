"""The length-controlled win rate: what the win rate would be if both answers were equally long (Dubois et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .clusters import Floats

RIDGE = 0.001
"""Penalty RIDGE / 2 · coefficient², which keeps a fit finite where one length always wins; it is worth 0.004 of a prompt."""

ITERATIONS = 60
TOLERANCE = 1e-8
FEW = 0.05
"""Lengths overlap where at least this share of the candidate's answers is no longer, and this share no shorter."""


@dataclass(frozen=True)
class Anchor:
    """Judgements of one model at two lengths, (m,) each, that hold the length's coefficient where a sample says little of it.

    `differences` are already standardised; each row weighs `weight` of a prompt. AlpacaEval adds those of its baseline
    told to be concise and to be verbose, against itself, at 0.1. They have no intercept: it is the same model.
    """

    preferences: Floats
    differences: Floats
    difficulties: Floats
    weight: float = 0.1


def length_controlled_win_rate(
    preferences: Floats, differences: Floats, difficulties: Floats | None = None, *, anchor: Anchor | None = None
) -> Floats:
    """Mean preference predicted for equal lengths: (..., n), (..., n) and, where given, (..., n) -> (...).

    Fits P(candidate preferred) = σ(a + b · tanh(d / s) + c · difficulty) to preferences in [0, 1], where d is the
    candidate's length less the baseline's and s the standard deviation of d (n - 1 in the denominator, not centred), and
    gives the mean over prompts of σ(a + c · difficulty): Dubois, Galambosi, Liang & Hashimoto (2024, arXiv 2404.04475),
    section 3. Maximum likelihood, for graded preferences too, with RIDGE. NaN where the difference is the same for all
    prompts and not 0, because then nothing separates length from quality.
    """
    spread = differences.std(axis=-1, ddof=1, keepdims=True) if differences.shape[-1] > 1 else np.zeros((1,))
    with np.errstate(invalid="ignore", divide="ignore"):
        lengths = np.where(spread > 0, np.tanh(differences / spread), np.where(differences == 0, 0.0, np.nan))
    features = [np.ones_like(lengths), lengths, *([] if difficulties is None else [difficulties])]
    design = np.stack(features, axis=-2)
    undefined = np.asarray(np.isnan(lengths).any(axis=-1))
    design = np.where(undefined[..., None, None], 0.0, design)
    targets, weights = preferences, np.ones(preferences.shape[-1])
    if anchor is not None:
        extra = [np.zeros(len(anchor.preferences)), np.tanh(anchor.differences), anchor.difficulties][: len(features)]
        design_extra = np.broadcast_to(np.stack(extra), (*design.shape[:-1], len(anchor.preferences)))
        design = np.concatenate([design, design_extra], axis=-1)
        targets = np.concatenate(
            [targets, np.broadcast_to(anchor.preferences, (*targets.shape[:-1], len(anchor.preferences)))], axis=-1
        )
        weights = np.concatenate([weights, np.full(len(anchor.preferences), anchor.weight)])
    flat = _fit(design.reshape(-1, *design.shape[-2:]), targets.reshape(-1, targets.shape[-1]), weights)
    coefficients = flat.reshape(*design.shape[:-2], len(features))
    equal = coefficients[..., :1]
    if difficulties is not None:
        equal = equal + coefficients[..., 2:] * difficulties
    return np.asarray(np.where(undefined, np.nan, _sigmoid(equal).mean(axis=-1)))


def length_control_gap(
    preferences: Floats, differences: Floats, difficulties: Floats | None = None, *, anchor: Anchor | None = None
) -> Floats:
    """Length-controlled less raw win rate, (..., n) -> (...): below 0 where length flattered the candidate."""
    controlled = length_controlled_win_rate(preferences, differences, difficulties, anchor=anchor)
    return np.asarray(controlled - preferences.mean(axis=-1))


def anchored(statistic: Callable[..., Floats], anchor: Anchor) -> Callable[..., Floats]:
    """One of the two statistics above, with an anchor that no resample changes."""
    return lambda *columns: statistic(*columns, anchor=anchor)


def lengths_overlap(differences: Floats) -> bool:
    """Whether equal lengths lie within the data, (n,); else a length-controlled win rate is an extrapolation.

    At least FEW of the differences are 0 or less, and at least FEW are 0 or more.
    """
    return bool(min((differences <= 0).mean(), (differences >= 0).mean()) >= FEW)


def _fit(design: Floats, targets: Floats, weights: Floats) -> Floats:
    """Logistic regressions of `targets` (b, n) on `design` (b, k, n), (b, k), by Newton's method.

    The first one's fit is where the others start: resamples of one sample are close to each other.
    """
    coefficients = np.zeros(design.shape[:2])
    coefficients[:1] = _newton(design[:1], targets[:1], weights, coefficients[:1])
    coefficients[1:] = _newton(design[1:], targets[1:], weights, np.repeat(coefficients[:1], len(design) - 1, axis=0))
    return coefficients


def _newton(design: Floats, targets: Floats, weights: Floats, start: Floats) -> Floats:
    coefficients, active = start.copy(), np.arange(len(design))
    ridge = RIDGE * np.eye(design.shape[1])
    for _ in range(ITERATIONS):
        if not len(active):
            break
        now = design if len(active) == len(design) else design[active]
        current = coefficients[active]
        fitted = _sigmoid((current[:, None] @ now)[:, 0])
        slope = (now @ (weights * (targets[active] - fitted))[..., None])[..., 0] - RIDGE * current
        curvature = (now * (weights * fitted * (1 - fitted))[:, None]) @ np.swapaxes(now, 1, 2) + ridge
        step = np.linalg.solve(curvature, slope[..., None])[..., 0]
        largest = np.abs(step).max(axis=-1, keepdims=True)
        # Far from the maximum the curvature is nearly 0 and a full step would overshoot it.
        coefficients[active] = current + step / np.maximum(1.0, largest)
        active = active[largest[:, 0] > TOLERANCE]
    return coefficients


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))
