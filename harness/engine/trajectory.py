"""Policies kept along a training, for a look at over-optimisation afterwards."""

from __future__ import annotations

import copy
import shutil
from typing import TYPE_CHECKING, Any

from ..trajectory import FOLDER
from .lora import merge_lora
from .models import save_model

if TYPE_CHECKING:
    from ..components import StageContext


class Trajectory:
    """`count` policies at equal distances of steps; the last of them is the trained model itself, and not kept twice.

    They wait beside the training's checkpoints, so that an interrupted training still has them, and become part of the
    artifact with `collect`.
    """

    def __init__(self, model: Any, tokenizer: Any, count: int, context: StageContext) -> None:
        self.model, self.tokenizer, self.count = model, tokenizer, count
        self.waiting, self.output = context.checkpoints / FOLDER, context.output / FOLDER

    def keep(self, step: int, steps: int) -> None:
        """Keep the policy after `step` of `steps`, if it is one of those to be kept. Adapters are merged into the copy."""
        if step == steps or step not in {steps * part // self.count for part in range(1, self.count)}:
            return
        policy = copy.deepcopy(self.model)
        merge_lora(policy)
        folder = self.waiting / str(step)
        shutil.rmtree(folder, ignore_errors=True)
        save_model(policy, self.tokenizer, folder)

    def collect(self) -> None:
        """Move what was kept into the artifact."""
        if self.waiting.exists():
            shutil.move(self.waiting, self.output)
