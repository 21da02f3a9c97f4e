"""Policies kept along a training, for a look at over-optimisation afterwards."""

from __future__ import annotations

import copy
import os
import shutil
from typing import TYPE_CHECKING, Any

from ..trajectory import FOLDER
from .lora import merge_lora
from .models import save_model

if TYPE_CHECKING:
    from ..components import StageContext


class Trajectory:
    """`count` policies at equal distances of steps; the last of them is the trained model itself, and not kept twice.

    They wait beside the training's checkpoints, so that an interrupted training still has them, and are copied into the
    artifact by `collect`.
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
        """Put what was kept into the artifact, too; it waits on until that is whole."""
        if self.waiting.exists():
            shutil.copytree(self.waiting, self.output, copy_function=_linked)


def _linked(source: str, target: str) -> None:
    """The file under another name, or a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
