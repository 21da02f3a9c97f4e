"""What is said of a logged curve follows from arithmetic that can be done by hand."""

from __future__ import annotations

from statistics import StatisticsError

import pytest

from harness.trends import residual_deviation, spread, student, trend, turns


@pytest.mark.parametrize(
    ("degrees", "value"),
    [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (9, 2.262),
        (18, 2.101),
        (30, 2.042),
        (31, 2.040),
        (100, 1.984),
    ],
)
def test_students_critical_values_are_those_of_the_tables(degrees: int, value: float) -> None:
    assert student(0.95, degrees) == pytest.approx(value, abs=0.0006)


def test_students_critical_values_at_another_level_are_those_of_the_tables() -> None:
    assert [student(0.99, degrees) for degrees in (1, 2, 10)] == pytest.approx([63.657, 9.925, 3.169], abs=0.0006)


def test_a_spread_is_the_mean_with_students_interval() -> None:
    """Of 1 to 5: mean 3, variance 2.5, standard error √0.5 = 0.7071, t of 4 degrees 2.776."""
    found = spread([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3
    assert found.high - 3 == pytest.approx(2.776 * 0.7071, rel=2e-4)
    assert found.high - 3 == pytest.approx(3 - found.low)
    with pytest.raises(StatisticsError):
        spread([])
    with pytest.raises(StatisticsError):
        spread([1.0])


def test_equal_values_have_no_spread() -> None:
    found = spread([0.5] * 10)
    assert (found.low, found.mean, found.high) == (0.5, 0.5, 0.5)


def test_a_trend_compares_the_last_third_with_the_first() -> None:
    """Thirds (0, 2) and (10, 12): change 10, variances 2, standard error √2, t of 2 degrees 4.303."""
    found = trend(list(enumerate([0.0, 2.0, 5.0, 5.0, 10.0, 12.0])))
    assert found is not None
    assert (found.first, found.last, found.change) == (1, 11, 10)
    assert (found.low + found.high) / 2 == pytest.approx(10)
    assert found.low == pytest.approx(10 - 4.303 * 2**0.5, abs=0.001)
    assert trend([(step, 1.0) for step in range(5)]) is None


def test_the_deviation_around_a_line_ignores_the_line() -> None:
    """Residuals of 0, 1, 0, 1 around y = 0.2 + 0.2 x: -0.2, 0.6, -0.6, 0.2; squares add up to 0.8, divided by 2."""
    assert residual_deviation([3.0, 5.0, 7.0, 9.0]) == pytest.approx(0)
    assert residual_deviation([0.0, 1.0, 0.0, 1.0]) == pytest.approx(0.4**0.5)


def test_turns_count_changes_of_direction() -> None:
    assert turns([1, 2, 3, 4]) == 0
    assert turns([1, 2, 1, 2, 1]) == 3
    assert turns([1, 2, 2, 3, 3, 2]) == 1, "a plateau is no turn"
