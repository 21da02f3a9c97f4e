"""Bradley-Terry strengths: published examples, arithmetic by hand, and when there are none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.stats.bradley_terry import bradley_terry, components, penalised, strongly_connected, unbounded

TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
BASEBALL = np.array(
    [
        [0, 7, 9, 7, 7, 9, 11],
        [6, 0, 7, 5, 11, 9, 9],
        [4, 6, 0, 7, 7, 8, 12],
        [6, 8, 6, 0, 6, 7, 10],
        [6, 2, 6, 7, 0, 7, 12],
        [4, 4, 5, 6, 6, 0, 6],
        [2, 4, 1, 3, 1, 7, 0],
    ],
    dtype=float,
)
"""Agresti (2002), Categorical Data Analysis, table 10.10: American League, Eastern Division, 1987; rows beat columns."""
CITATIONS = np.array([[0, 730, 498, 221], [33, 0, 68, 17], [320, 813, 0, 142], [284, 276, 325, 0]], dtype=float)
"""Stigler (1994), in Agresti (2002), p. 448: how often the row's journal was cited by the column's; Biometrika,
Communications in Statistics, JASA, JRSS-B."""


def test_the_american_league_of_1987() -> None:
    strengths = bradley_terry(BASEBALL)
    # Agresti (2002), table 10.11, without a home advantage, Baltimore at 0; four digits: R's BradleyTerry2.
    published = [1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839, 0.0]
    assert strengths - strengths[-1] == pytest.approx(published, abs=5e-5)
    assert strengths.sum() == pytest.approx(0, abs=1e-9)


def test_journals_by_their_citations() -> None:
    strengths = bradley_terry(CITATIONS)
    # Turner & Firth (2012), Journal of Statistical Software 48(9), section 1.2, Biometrika at 0.
    assert strengths - strengths[0] == pytest.approx([0, -2.9491, -0.4796, 0.2690], abs=5e-5)


def test_two_models_by_hand() -> None:
    # 3 wins and 1 loss: the odds are 3, the difference is log 3, and the strengths lie around 0.
    assert bradley_terry(np.array([[0, 3.0], [1, 0]])) == pytest.approx([math.log(3) / 2, -math.log(3) / 2])


def test_ties_are_half_a_win_each_way_and_a_graded_preference_is_its_share() -> None:
    # Two ties and two wins: 3 to 1. A preference of 0.75 four times is the same.
    assert bradley_terry(np.array([[0, 2 + 2 * 0.5], [2 * 0.5, 0]])) == pytest.approx([math.log(3) / 2, -math.log(3) / 2])


def test_expected_scores_equal_observed_ones() -> None:
    wins = np.random.default_rng(0).uniform(0.5, 20, (6, 6)) * (1 - np.eye(6))
    s = bradley_terry(wins)
    expected = ((wins + wins.T) / (1 + np.exp(s[None, :] - s[:, None]))).sum(axis=1)
    assert expected == pytest.approx(wins.sum(axis=1))


def test_a_star_gives_the_logit_of_every_win_rate() -> None:
    # Two models that only met the baseline (the last): 80 of 100 and 30 of 100.
    wins = np.array([[0, 0, 80.0], [0, 0, 30], [20, 70, 0]])
    s = bradley_terry(wins)
    assert s[0] - s[2] == pytest.approx(math.log(80 / 20))
    assert s[1] - s[2] == pytest.approx(math.log(30 / 70))


def test_many_tables_are_fitted_as_one_by_one() -> None:
    tables = np.random.default_rng(1).uniform(1, 9, (4, 5, 5))
    assert bradley_terry(tables)[2] == pytest.approx(bradley_terry(tables[2]))


def test_the_diagonal_is_not_read() -> None:
    assert bradley_terry(CITATIONS + 500 * np.eye(4)) == pytest.approx(bradley_terry(CITATIONS))


def test_fords_condition() -> None:
    circle = np.array([[0, 1.0, 0], [0, 0, 1], [1, 0, 0]])
    ladder = np.array([[0, 1.0, 1], [0, 0, 1], [0, 0, 0]])
    assert strongly_connected(np.stack([circle, ladder])).tolist() == [True, False]
    # A circle of seven needs paths of six wins.
    assert strongly_connected(np.roll(np.eye(7), 1, axis=1))


def test_which_strengths_have_no_bound() -> None:
    # 0 beat everybody; 1 and 2 beat each other and 3; 3 beat nobody.
    wins = np.array([[0, 2.0, 2, 2], [0, 0, 1, 2], [0, 1, 0, 2], [0, 0, 0, 0]])
    assert unbounded(wins) == ["above", None, None, "below"]
    assert unbounded(BASEBALL) == [None] * 7


def test_the_penalty_is_one_tie_for_each_pair_that_met() -> None:
    # 10 wins of 10 become 10.5 to 0.5: a difference of log 21. The third model met only the second.
    wins = np.array([[0, 10.0, 0], [0, 0, 2], [0, 2, 0]])
    assert penalised(wins, wins).tolist() == [[0, 10.5, 0], [0.5, 0, 2.5], [0, 2.5, 0]]
    s = bradley_terry(penalised(wins, wins))
    assert s[0] - s[1] == pytest.approx(math.log(21))


def test_models_that_never_met() -> None:
    wins = np.zeros((4, 4))
    wins[0, 1] = wins[1, 0] = wins[2, 3] = 1
    group = components(wins)
    assert group[0] == group[1] != group[2] == group[3]
