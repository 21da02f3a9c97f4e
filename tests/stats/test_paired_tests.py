"""McNemar's exact test and the sign-flip permutation test: by hand, against scipy and published data."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from harness.stats import Clusters, mcnemar, sign_flip, sign_test

# Darwin's maize, crossed minus self-fertilized, in eighths of an inch (Fisher 1935, The Design of Experiments, table 3).
MAIZE = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=float)


def test_mcnemar_by_hand() -> None:
    # 2 · (C(8,0) + C(8,1)) / 2⁸ = 18 / 256.
    assert mcnemar(7, 1) == mcnemar(1, 7) == pytest.approx(18 / 256)
    assert mcnemar(4, 4) == 1.0
    assert mcnemar(0, 0) == 1.0
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 3)


def test_mcnemar_is_the_sign_test_of_the_differences() -> None:
    differences = np.array([1.0] * 9 + [-1.0] * 3 + [0.0] * 40)
    assert mcnemar(9, 3) == pytest.approx(sign_test(differences, Clusters.of(range(52))))


def test_fishers_maize() -> None:
    """Of the 2¹⁵ ways to sign the differences Fisher counts 863 on either side as large as the observed sum or larger."""
    assert sign_flip(MAIZE, Clusters.of(range(15))) == pytest.approx(2 * 863 / 2**15)


def test_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).normal(0.4, 1, size=10)
    expected = stats.permutation_test(
        (values,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert sign_flip(values, Clusters.of(range(10))) == pytest.approx(expected.pvalue)


def test_clusters_flip_as_one() -> None:
    values, clusters = np.array([1.0, 2.0, -0.5, 4.0, 0.5]), Clusters.of("aabbc")
    sums = [3.0, 3.5, 0.5]
    ways = [abs(sum(s * x for s, x in zip(signs, sums, strict=True))) for signs in itertools.product((1, -1), repeat=3)]
    assert sign_flip(values, clusters) == pytest.approx(np.mean([way >= 7.0 for way in ways]))
    assert sign_flip(np.repeat(MAIZE, 2), Clusters.of(np.repeat(range(15), 2).tolist())) == sign_flip(
        MAIZE, Clusters.of(range(15))
    )


def test_many_clusters_are_drawn_and_the_seed_decides() -> None:
    twice = np.concatenate([MAIZE, MAIZE])
    p_value = sign_flip(twice, Clusters.of(range(30)), seed=1)
    assert p_value == sign_flip(twice, Clusters.of(range(30)), seed=1)
    # The normal approximation: Σd / √Σd².
    assert p_value == pytest.approx(2 * stats.norm.sf(twice.sum() / np.sqrt(np.square(twice).sum())), abs=0.004)


def test_a_drawn_p_value_is_never_zero() -> None:
    assert sign_flip(np.full(60, 1.0), Clusters.of(range(60)), resamples=999) == pytest.approx(1 / 1000)


def test_null_and_ties() -> None:
    assert sign_flip(np.full(10, 0.5), Clusters.of(range(10)), null=0.5) == 1.0
    # Five differ and all the same way: 2 of 2⁵.
    assert sign_flip(np.array([0.5] * 5 + [1.0] * 5), Clusters.of(range(10)), null=0.5) == pytest.approx(2 / 2**5)
