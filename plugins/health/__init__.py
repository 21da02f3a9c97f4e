"""Health rules of the built-in aligners: what their numbers mean while they train, one aligner a file.

Thresholds were fixed from the sources that the rules name, before they met the runs on which false alarms are counted.
"""

from __future__ import annotations

import harness


@harness.hookimpl
def harness_health_rules() -> list[harness.Rule]:
    """Every built-in rule."""
    from .dpo import RULES as DPO
    from .ppo import RULES as PPO
    from .reward import RULES as REWARD

    return [*REWARD, *DPO, *PPO]
