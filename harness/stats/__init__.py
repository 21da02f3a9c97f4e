"""Estimates and their intervals: the one table of which interval is used when, and the functions behind it.

0/1 rate                                    Wilson, from the effective sample size where prompts share roots
mean of values in [0, 1] in the unit of a
rate, such as a preference with ties        the same, from the size of a 0/1 sample that is worth as much
paired difference of 0/1 rates              Agresti & Min, from the effective sample size
other means and paired differences          BCa bootstrap over clusters of prompts
the same with fewer than ten clusters       Student's t over clusters
fitted statistic                            BCa, refitted for every resample; fewer resamples the more observations
nothing varies                              the value itself, `exact-constant`
any of these over several training seeds    two-way analysis of seeds and prompts; Wilson's limits for rates

p-values                                    exact sign test; Holm's adjustment over the comparisons of one judge on one suite

An interval covers the choice of prompts, and the training run only where several seeds were trained. Nothing here needs
torch, and scipy is imported where it is used; every function works on arrays and can be used on its own.
"""

from __future__ import annotations

from .agreement import cohen_kappa, corrected_win_rate, rogan_gladen, sensitivity, specificity
from .best_of_n import best_of_n, best_of_n_kl
from .bootstrap import bca, percentile
from .bradley_terry import bradley_terry
from .clusters import Clusters, TooFewPrompts, copies_size, effective_size, standard_error
from .estimates import estimate, estimate_columns, paired_difference
from .fitted import expected_calibration_error, pearson, pearson_of_pairs, spearman
from .intervals import Interval
from .length_control import Anchor, anchored, length_control_gap, length_controlled_win_rate, lengths_overlap
from .means import student_t
from .multiplicity import benjamini_hochberg, holm
from .pairwise import pairwise_differences
from .power import detectable_mean, detectable_rate_difference, detectable_win_rate, prompts_needed
from .ranking import NotConnected, Ranking, Standing, rank_models, strength_estimates
from .rates import clopper_pearson, rate_difference_interval, rate_interval, wilson
from .resampling import replicates
from .reward_models import (
    ReliabilityBin,
    brier,
    correct,
    fit_temperature,
    negative_log_likelihood,
    preference_probability,
    reliability,
    signed_calibration_error,
    signed_confidence,
)
from .seeds import CrossedInterval, crossed_interval
from .significance import mcnemar, sign_flip, sign_test

__all__ = [
    "Anchor",
    "Clusters",
    "CrossedInterval",
    "Interval",
    "NotConnected",
    "Ranking",
    "ReliabilityBin",
    "Standing",
    "TooFewPrompts",
    "anchored",
    "bca",
    "benjamini_hochberg",
    "best_of_n",
    "best_of_n_kl",
    "bradley_terry",
    "brier",
    "clopper_pearson",
    "cohen_kappa",
    "copies_size",
    "correct",
    "corrected_win_rate",
    "crossed_interval",
    "detectable_mean",
    "detectable_rate_difference",
    "detectable_win_rate",
    "effective_size",
    "estimate",
    "estimate_columns",
    "expected_calibration_error",
    "fit_temperature",
    "holm",
    "length_control_gap",
    "length_controlled_win_rate",
    "lengths_overlap",
    "mcnemar",
    "negative_log_likelihood",
    "paired_difference",
    "pairwise_differences",
    "pearson",
    "pearson_of_pairs",
    "percentile",
    "preference_probability",
    "prompts_needed",
    "rank_models",
    "rate_difference_interval",
    "rate_interval",
    "reliability",
    "replicates",
    "rogan_gladen",
    "sensitivity",
    "sign_flip",
    "sign_test",
    "signed_calibration_error",
    "signed_confidence",
    "spearman",
    "specificity",
    "standard_error",
    "strength_estimates",
    "student_t",
    "wilson",
]
