"""Estimates and their intervals: the one table of which interval is used when, and the functions behind it.

0/1 rate                                    Wilson, from the effective sample size where prompts share roots
mean, preference with ties, paired
difference                                  BCa bootstrap over clusters of prompts
fitted statistic                            the same, refitted for every resample
nothing varies                              the value itself, `exact-constant`

An interval covers the choice of prompts, not the training run.
"""

from __future__ import annotations

from .agreement import cohen_kappa, corrected_win_rate, rogan_gladen, sensitivity, specificity, youden
from .clusters import Clusters, TooFewPrompts, effective_size, standard_error
from .estimates import estimate, estimate_columns, paired_difference
from .fitted import expected_calibration_error, pearson, spearman
from .intervals import Interval, bca, rate_interval, wilson
from .significance import sign_test

__all__ = [
    "Clusters",
    "Interval",
    "TooFewPrompts",
    "bca",
    "cohen_kappa",
    "corrected_win_rate",
    "effective_size",
    "estimate",
    "estimate_columns",
    "expected_calibration_error",
    "paired_difference",
    "pearson",
    "rate_interval",
    "rogan_gladen",
    "sensitivity",
    "sign_test",
    "spearman",
    "specificity",
    "standard_error",
    "wilson",
    "youden",
]
