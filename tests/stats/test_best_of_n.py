"""Best-of-n: against all subsets, and the bound on its KL."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from harness.stats import best_of_n, best_of_n_kl


def test_every_subset_counts_once() -> None:
    scores, values = np.random.default_rng(1).normal(size=(2, 7))
    for n, found in enumerate(best_of_n(scores, values), 1):
        subsets = list(itertools.combinations(range(7), n))
        assert found == pytest.approx(np.mean([values[max(each, key=lambda i: scores[i])] for each in subsets]))


def test_by_hand() -> None:
    # Of the pairs (1, 2), (1, 6), (2, 6) the best are 2, 6, 6.
    assert best_of_n(np.array([6.0, 1.0, 2.0])) == pytest.approx([3.0, 14 / 3, 6.0])


def test_equal_scores_share_their_values() -> None:
    # A tie at the top is decided by a coin: best of two is worth (10 + 20) / 2; of one (10 + 20) / 2 as well.
    assert best_of_n(np.array([1.0, 1.0]), np.array([10.0, 20.0])) == pytest.approx([15.0, 15.0])
    # Pairs: the two at the top, and each of them with the third.
    assert best_of_n(np.array([[3.0, 3.0, 0.0]]), np.array([[10.0, 20.0, 0.0]])) == pytest.approx(
        np.array([[10.0, 15.0, 15.0]])
    )


def test_prompts_are_rows_and_the_estimate_is_unbiased() -> None:
    """The mean of the greatest of n uniform numbers is n / (n + 1)."""
    curve = best_of_n(np.random.default_rng(2).uniform(size=(4000, 8))).mean(axis=0)
    assert curve == pytest.approx([n / (n + 1) for n in range(1, 9)], abs=0.01)


def test_many_answers_do_not_overflow() -> None:
    curve = best_of_n(np.arange(600.0))
    assert curve[0] == pytest.approx(299.5)
    assert curve[-1] == 599
    assert (np.diff(curve) > 0).all()


def test_the_bound_on_the_kl() -> None:
    assert best_of_n_kl(1) == 0.0
    assert best_of_n_kl(4) == pytest.approx(math.log(4) - 0.75)
    with pytest.raises(ValueError, match="best of 0"):
        best_of_n_kl(0)


def test_the_kl_of_a_policy_with_two_answers_stays_below_the_bound() -> None:
    """Of answers with probabilities 0.9 and 0.1, best of 4 takes the better, rare one with probability 1 - 0.9⁴."""
    rare = 1 - 0.9**4
    kl = rare * math.log(rare / 0.1) + (1 - rare) * math.log((1 - rare) / 0.9)
    assert kl < best_of_n_kl(4)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shape"):
        best_of_n(np.zeros(3), np.zeros(4))
