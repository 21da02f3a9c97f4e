"""The exact sign test, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats import Clusters, sign_test
from harness.stats.significance import sign_test_of_mean


def test_eight_of_ten() -> None:
    values = np.array([1.0] * 8 + [-1.0] * 2)
    # 2 · (C(10,0) + C(10,1) + C(10,2)) / 2¹⁰ = 2 · 56 / 1024.
    assert sign_test(values, Clusters.of(range(10))) == pytest.approx(0.109375)


def test_ties_are_dropped() -> None:
    values = np.array([0.5] * 5 + [1.0] * 5)
    assert sign_test(values, Clusters.of(range(10)), null=0.5) == pytest.approx(2 / 2**5)


def test_only_ties_prove_nothing() -> None:
    assert sign_test(np.full(10, 0.5), Clusters.of(range(10)), null=0.5) == 1.0


def test_siblings_have_one_sign() -> None:
    values = np.array([1.0] * 8 + [-1.0] * 2)
    copies = sign_test(np.repeat(values, 10), Clusters.of(np.repeat(range(10), 10).tolist()))
    assert copies == pytest.approx(0.109375)


def test_siblings_that_cancel_are_a_tie() -> None:
    # 0.1 + 0.2 - 0.3 is 5.6e-17 in floating point.
    values = np.array([0.1, 0.2, -0.3, 1.0, 1.0])
    assert sign_test(values, Clusters.of("aaabc")) == pytest.approx(2 / 2**2)


def test_signs_that_contradict_the_mean_confirm_nothing() -> None:
    """70 of 100 lose by .05 and 30 win by .45: the mean is above ½ by .1, and the small p-value is of losing."""
    values, clusters = np.array([0.45] * 70 + [0.95] * 30), Clusters.of(range(100))
    assert values.mean() == pytest.approx(0.6)
    assert sign_test(values, clusters, null=0.5) < 1e-4
    assert sign_test_of_mean(values, clusters, null=0.5) == 1.0
    assert sign_test_of_mean(1 - values, clusters, null=0.5) == 1.0


def test_signs_that_agree_with_the_mean_are_the_sign_test() -> None:
    values, clusters = np.array([1.0] * 8 + [-1.0] * 2), Clusters.of(range(10))
    assert sign_test_of_mean(values, clusters) == pytest.approx(0.109375)
