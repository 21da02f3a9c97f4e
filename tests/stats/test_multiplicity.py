"""Holm's and Benjamini and Hochberg's adjustments: by hand, against scipy, and on published p-values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.stats import benjamini_hochberg, holm

# Benjamini & Hochberg (1995), section 4: fifteen comparisons, of which Bonferroni rejects three and BH four at 0.05.
PUBLISHED = [
    0.0001,
    0.0004,
    0.0019,
    0.0095,
    0.0201,
    0.0278,
    0.0298,
    0.0344,
    0.0459,
    0.3240,
    0.4262,
    0.5719,
    0.6528,
    0.7590,
    1.0,
]


def test_holm_by_hand() -> None:
    # Ascending .01 .02 .03 .04: times 4, 3, 2, 1 are .04 .06 .06 .04, and none may fall below the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_holm_rejects_what_is_published() -> None:
    """0.0019 · 13 = 0.0247 falls, 0.0095 · 12 = 0.114 does not."""
    assert sum(p <= 0.05 for p in holm(PUBLISHED)) == 3


def test_benjamini_hochberg_rejects_what_is_published() -> None:
    assert sum(p <= 0.05 for p in benjamini_hochberg(PUBLISHED)) == 4


def test_benjamini_hochberg_agrees_with_scipy_in_any_order() -> None:
    shuffled = np.random.default_rng(1).permutation(PUBLISHED)
    assert benjamini_hochberg(shuffled.tolist()) == pytest.approx(stats.false_discovery_control(shuffled))


def test_holm_keeps_the_error_of_a_family() -> None:
    """Of 4,000 families of eight true null hypotheses, about 5 % lose one; without adjustment 1 - 0.95⁸ = 34 %."""
    p_values = np.random.default_rng(2).uniform(size=(4000, 8))
    lost = np.mean([min(holm(family)) <= 0.05 for family in p_values.tolist()])
    assert lost == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(adjust, wrong) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="outside"):
        adjust([0.5, wrong])
