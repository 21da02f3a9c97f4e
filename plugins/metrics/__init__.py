"""The built-in metrics, one family a file. None of them computes an interval: `harness.stats` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import hookimpl

if TYPE_CHECKING:
    from harness import Metric


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    """The classes of the built-in metrics, imported only when they are asked for."""
    from .answered_win_rate import AnsweredWinRate
    from .diversity import Diversity
    from .helpfulness import Helpfulness
    from .kl import KL
    from .length import Length
    from .length_controlled_win_rate import LengthControlledWinRate
    from .likelihood import ChosenLikelihood
    from .retention import Retention
    from .reward import Reward
    from .reward_model import Accuracy
    from .safety import Safety
    from .unsafe_compliance import UnsafeCompliance
    from .win_rate import WinRate

    return [
        WinRate,
        AnsweredWinRate,
        LengthControlledWinRate,
        Reward,
        KL,
        Safety,
        Helpfulness,
        Diversity,
        Length,
        Accuracy,
        Retention,
        ChosenLikelihood,
        UnsafeCompliance,
    ]
