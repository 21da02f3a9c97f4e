"""What a number of prompts could have shown, and how many would show what was seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .text import is_fraction, number, prompts, prompts_in_words

if TYPE_CHECKING:
    from harness.records import Estimate

POWER = 0.8
MANY = 20_000
"""More prompts than anyone would write."""


def what_would_tell(estimate: Estimate, null: float) -> str:
    """A sentence on an undecided estimate: the difference that its prompts find, and the prompts that the one seen needs.

    Empty where there is no standard error. Both have a power of 80 % at the estimate's level, by the normal approximation.
    More prompts make only the prompts' part of the error smaller, not that of the training seeds.
    """
    from harness.stats import detectable_mean, prompts_needed

    if not estimate.standard_error:
        return ""
    deviation = estimate.standard_error * math.sqrt(estimate.clusters)
    found = detectable_mean(estimate.clusters, deviation, level=estimate.level, power=POWER)
    text = f"{prompts_in_words(estimate)} find a difference of {_difference(estimate, found)} in four runs of five"
    if gap := abs(estimate.value - null):
        of_seeds = found / estimate.standard_error * (estimate.seed_error or 0.0)
        if of_seeds >= gap:
            return (
                f"{text}; no number of prompts would find one as small as the {_difference(estimate, gap)} seen here: the "
                f"{estimate.seeds} training seeds differ by more, so train more of them."
            )
        if estimate.prompt_error:
            deviation = estimate.prompt_error * math.sqrt(estimate.clusters)
        needed = prompts_needed(math.sqrt(gap**2 - of_seeds**2), deviation, level=estimate.level, power=POWER)
        if needed > estimate.clusters:
            about = f"more than {MANY:,}" if needed > MANY else f"about {_round(needed):,}"
            noun = "" if prompts(estimate) == estimate.clusters else " groups"
            text += f"; one as small as the {_difference(estimate, gap)} seen here would need {about}{noun}"
    return f"{text}."


def _difference(estimate: Estimate, value: float) -> str:
    return f"{number(100 * value, 1)} points" if is_fraction(estimate) else f"{number(value)} {estimate.unit}"


def _round(n: int) -> int:
    """Two significant digits: the rest would be false precision."""
    digits = max(0, len(str(n)) - 2)
    unit: int = 10**digits
    return -(-n // unit) * unit
