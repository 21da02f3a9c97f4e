"""Grouping by root, and the cluster-robust standard error."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats import Clusters, TooFewPrompts, standard_error


def test_groups_by_root() -> None:
    clusters = Clusters.of(["b", "a", "b", "c"])
    assert (clusters.n, clusters.count) == (4, 3)
    assert clusters.sizes.tolist() == [2, 1, 1]
    assert clusters.sums(np.array([1.0, 10, 100, 1000])).tolist() == [101, 10, 1000]
    assert clusters.means(np.array([1.0, 10, 100, 1000])).tolist() == [50.5, 10, 1000]


def test_rows_of_drawn_groups_are_whole_groups() -> None:
    clusters = Clusters.of(["b", "a", "b", "c"])
    assert clusters.rows(np.array([2, 0, 0, 1])).tolist() == [3, 0, 2, 0, 2, 1]


def test_standard_error_by_hand() -> None:
    values = np.array([1.0, 2, 3, 6])
    # Mean 3, residuals -2, -1, 0, 3. Alone: s² = 14 / 3, so sqrt(14 / 3 / 4).
    assert standard_error(values, Clusters.of("abcd")) == pytest.approx((14 / 12) ** 0.5)
    # In pairs: residual sums -3 and 3, so sqrt(2 / 1 · 18) / 4 = 1.5.
    assert standard_error(values, Clusters.of("aabb")) == pytest.approx(1.5)


def test_duplicates_leave_the_standard_error() -> None:
    values = np.array([1.0, 2, 3, 6])
    copies = standard_error(np.repeat(values, 5), Clusters.of(np.repeat(range(4), 5).tolist()))
    assert copies == pytest.approx(standard_error(values, Clusters.of(range(4))))


def test_a_single_cluster_has_no_standard_error() -> None:
    with pytest.raises(TooFewPrompts, match="evaluate more prompts"):
        standard_error(np.array([1.0, 2.0]), Clusters.of("aa"))


def test_nothing_cannot_be_grouped() -> None:
    with pytest.raises(ValueError, match="no observations"):
        Clusters.of([])
