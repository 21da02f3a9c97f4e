"""Estimates and their intervals: the one table of which interval is used when, and the functions behind it.

0/1 rate                                    Wilson, from the effective sample size where prompts share roots
mean, preference with ties, paired
difference                                  BCa bootstrap over clusters of prompts
fitted statistic                            the same, refitted for every resample
nothing varies                              the value itself, `exact-constant`

An interval covers the choice of prompts, not the training run.
"""

from __future__ import annotations

from .bradley_terry import bradley_terry
from .clusters import Clusters, TooFewPrompts, effective_size, standard_error
from .estimates import estimate, estimate_columns, paired_difference
from .fitted import expected_calibration_error, pearson, spearman
from .intervals import Interval, bca, rate_interval, wilson
from .length_control import Anchor, anchored, length_control_gap, length_controlled_win_rate, lengths_overlap
from .ranking import NotConnected, Ranking, Standing, rank_models
from .significance import sign_test

__all__ = [
    "Anchor",
    "Clusters",
    "Interval",
    "NotConnected",
    "Ranking",
    "Standing",
    "TooFewPrompts",
    "anchored",
    "bca",
    "bradley_terry",
    "effective_size",
    "estimate",
    "estimate_columns",
    "expected_calibration_error",
    "length_control_gap",
    "length_controlled_win_rate",
    "lengths_overlap",
    "paired_difference",
    "pearson",
    "rank_models",
    "rate_interval",
    "sign_test",
    "spearman",
    "standard_error",
    "wilson",
]
