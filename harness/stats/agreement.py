"""Two raters of the same things: how far they agree beyond chance, and a rate corrected for the errors of one of them.

Vectorised over leading axes, so that a bootstrap refits them for thousands of resamples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .clusters import Floats


def cohen_kappa(first: Floats, second: Floats) -> Floats:
    """Cohen's kappa of two raters' categories, coded as numbers: (..., n) and (..., n) -> (...).

    (p_o - p_e) / (1 - p_e), with the share p_o of equal codes and the share p_e that raters with these margins have
    equal by chance (Cohen 1960, equation 1). Undefined, NaN, where both use one and the same category throughout.
    """
    observed = (first == second).mean(axis=-1)
    chance = sum(
        (first == category).mean(axis=-1) * (second == category).mean(axis=-1)
        for category in np.intersect1d(np.unique(first), np.unique(second))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((observed - chance) / (1 - np.asarray(chance)))


def rogan_gladen(apparent: Floats, sensitivity: Floats, specificity: Floats) -> Floats:
    """A true rate from the rate that a fallible rater sees: (...) each -> (...).

    (apparent + specificity - 1) / (sensitivity + specificity - 1), within [0, 1] (Rogan & Gladen 1978, equation 1).
    Where sensitivity + specificity <= 1 the rater tells nothing; the result is then the limit that the rate runs to as
    the sum falls to 1, which is an end of [0, 1]. Make sure first that it is more.
    """
    excess = np.asarray(apparent + specificity - 1)
    index = np.maximum(np.asarray(sensitivity + specificity - 1), np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        return np.asarray(np.clip(excess / index, 0.0, 1.0))


def sensitivity(preference: Floats, label: Floats) -> Floats:
    """A judge's mean preference where people prefer the candidate (`label` 1): (..., n) and (..., n) -> (...).

    Labels are 1, 0, or anything else for "not known". NaN where none is 1.
    """
    return _mean(preference, label == 1)


def specificity(preference: Floats, label: Floats) -> Floats:
    """1 minus a judge's mean preference where people prefer the baseline (`label` 0); NaN where none is 0."""
    return 1 - _mean(preference, label == 0)


def corrected_win_rate(preference: Floats, label: Floats, target: Floats) -> Floats:
    """The win rate that people would give, from a judge's preferences and its errors: (..., n) three times -> (...).

    `preference` is the judge's, in [0, 1]; `label` 1 or 0 is people's, else not known; `target` 1 marks the rows of the
    win rate in question. By linearity Rogan & Gladen's identity E[judge] = π · sensitivity + (1 - π) · (1 - specificity)
    holds for a preference in [0, 1] as for a verdict of 0 or 1. Rows that people call a tie are as if half of them were
    won and half lost. All three means come from one table, so resampling its rows resamples the calibration too, and
    keeps the covariance of rows that are in both (Lang & Reiczigel 2014 treat samples that are apart).
    """
    apparent = _mean(preference, target == 1)
    return rogan_gladen(apparent, sensitivity(preference, label), specificity(preference, label))


def _mean(values: Floats, chosen: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(chosen, values, 0.0).sum(axis=-1) / chosen.sum(axis=-1))


__all__ = ["cohen_kappa", "corrected_win_rate", "rogan_gladen", "sensitivity", "specificity"]
