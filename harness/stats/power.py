"""How large a difference has to be for so many prompts to show it, and how many prompts a difference needs.

All are of a two-sided comparison at `level` that finds the difference with probability `power`. n counts independent
prompts: divide by the design effect where they share roots. Normal approximation throughout, so exact tests need a little
more.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from .intervals import check_level


def detectable_mean(n: float, deviation: float, *, level: float = 0.95, power: float = 0.8) -> float:
    """The smallest paired difference that is found: (z_level + z_power) · deviation / √n (Miller 2024, arXiv 2411.00640, section 5).

    `deviation` is the standard deviation of the per-prompt differences. Raises ValueError for n or deviation that is not
    positive, and unless level and power lie between 0 and 1.
    """
    _check(n, level, power)
    if deviation <= 0:
        raise ValueError(f"a deviation of {deviation}")
    certain, found = _quantiles(level, power)
    return (certain + found) * deviation / math.sqrt(n)


def detectable_win_rate(n: float, ties: float = 0.0, *, level: float = 0.95, power: float = 0.8) -> float | None:
    """How far from ½ a win rate has to lie to be found; None where n prompts find none at all.

    The δ of δ√n = z_level·√v + z_power·√(v - δ²) with v = (1 - ties) / 4, the variance of preferences at a win rate of ½
    (Connor 1987, Biometrics 43:207-211). No ties is the worst case. Raises ValueError for ties outside [0, 1) and as
    `detectable_mean` does.
    """
    if not 0 <= ties < 1:
        raise ValueError(f"a share of ties of {ties}")
    return _detectable(n, (1 - ties) / 4, level, power)


def detectable_rate_difference(n: float, discordant: float, *, level: float = 0.95, power: float = 0.8) -> float | None:
    """How far apart two rates on the same prompts have to lie to be found; None where n prompts find no difference.

    `discordant` is the share of prompts on which the two differ, the variance of their differences under no difference:
    Connor's equation, as in `detectable_win_rate`. Raises ValueError for a share outside (0, 1] and as `detectable_mean`
    does.
    """
    if not 0 < discordant <= 1:
        raise ValueError(f"a discordant share of {discordant}")
    return _detectable(n, discordant, level, power)


def prompts_needed(difference: float, deviation: float, *, level: float = 0.95, power: float = 0.8) -> int:
    """How many independent prompts find a difference: ((z_level + z_power) · deviation / difference)², rounded up.

    `deviation` is the standard deviation of the per-prompt values: standard error · √n of an estimate. Raises ValueError
    for a difference of 0 and as `detectable_mean` does.
    """
    if difference == 0:
        raise ValueError("no number of prompts finds a difference of 0")
    return max(1, math.ceil((detectable_mean(1, deviation, level=level, power=power) / difference) ** 2 - 1e-9))


def _detectable(n: float, variance: float, level: float, power: float) -> float | None:
    _check(n, level, power)
    certain, found = _quantiles(level, power)
    # (δ√n - a)² = z_power²·(v - δ²) with a = z_level·√v, as a quadratic in δ.
    a, square = certain * math.sqrt(variance), n + found**2
    inside = n * a**2 - square * (a**2 - found**2 * variance)
    if inside < 0:
        return None
    difference = (a * math.sqrt(n) + math.copysign(math.sqrt(inside), found)) / square
    # Squaring let in a difference on the wrong side of the critical value.
    return difference if difference**2 <= variance and (difference * math.sqrt(n) - a) * found >= 0 else None


def _quantiles(level: float, power: float) -> tuple[float, float]:
    normal = NormalDist()
    return normal.inv_cdf((1 + level) / 2), normal.inv_cdf(power)


def _check(n: float, level: float, power: float) -> None:
    check_level(level)
    if not 0 < power < 1:
        raise ValueError(f"power {power} is not between 0 and 1")
    if n <= 0:
        raise ValueError(f"{n} prompts")
