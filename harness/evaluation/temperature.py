"""The temperature that makes a reward model's margins on held-out pairs probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence


def fit_temperature(margins: Sequence[float]) -> float:
    """The T under which sigmoid(margin / T) makes the choices likeliest (Guo et al. 2017, section 4.2).

    `margins` are scores of the chosen answer minus the rejected one's. The mean of -log sigmoid(b · margin) is convex in
    b = 1 / T, so the b where its slope is 0 is found by bisection. Infinity where the margins are right no more than a coin by
    weight (their mean is not positive), 0 where none is wrong: the likelihood then rises for ever. Raises ValueError for none.
    """
    if not margins:
        raise ValueError("a temperature is fitted to at least one pair")
    if sum(margins) <= 0:
        return math.inf
    if min(margins) >= 0:
        return 0.0

    def slope(b: float) -> float:
        return -sum(margin * 0.5 * (1 - math.tanh(b * margin / 2)) for margin in margins)

    low, high = 0.0, 1.0 / max(map(abs, margins))
    while slope(high) < 0:
        low, high = high, 2 * high
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)
