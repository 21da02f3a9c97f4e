"""Built-in aligners: what trains a model from another."""

from __future__ import annotations

import harness


@harness.hookimpl
def harness_aligners() -> list[type[harness.Aligner]]:
    from .dpo import DPO
    from .ppo import PPO
    from .reward import RewardModel
    from .sft import SFT

    return [SFT, RewardModel, DPO, PPO]
