"""A plugin of broken things: each breaks a training run in one known way, so that a health rule has something to see."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from harness_plugins.aligners.dpo import DPO
from harness_plugins.aligners.ppo import PPO

import harness


class WrongSignDPO(DPO):
    """DPO with the sign of its loss turned round: label smoothing of 1 takes every rejected answer for the chosen one."""

    name = "dpo-wrong-sign"

    def run(self, config: Any, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train on the opposite. `model_copy` does not validate, so the bound on label smoothing does not hold here."""
        super().run(config.model_copy(update={"label_smoothing": 1.0}), inputs, context)


class StaleSamplerPPO(PPO):
    """PPO whose sampler keeps the weights that it began with, as an inference engine does that is never sent new ones."""

    name = "ppo-stale-sampler"

    def run(self, config: Any, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train on answers that another model wrote."""
        with _stale_sampler():
            super().run(config, inputs, context)


@contextmanager
def _stale_sampler() -> Iterator[None]:
    from harness_plugins.aligners import ppo_training

    fresh, first = ppo_training.generate, []

    def generate(model: Any, *arguments: Any, **options: Any) -> Any:
        if not first:
            first.append(copy.deepcopy(model))
        return fresh(first[0], *arguments, **options)

    ppo_training.generate = generate
    try:
        yield
    finally:
        ppo_training.generate = fresh


class Brevity(harness.ScoringJudge):
    """Prefers the shorter answer: the opposite of what a reward model that was trained on length likes."""

    name = "brevity"

    def score(
        self,
        prompts: Sequence[harness.Prompt],
        answers: Sequence[str],
        config: Any,
        inputs: Mapping[str, harness.Artifact],
        compute: harness.Compute,
    ) -> list[float | None]:
        """Minus the number of characters."""
        return [-float(len(answer)) for answer in answers]


@harness.hookimpl
def harness_aligners() -> list[type[harness.Aligner]]:
    return [WrongSignDPO, StaleSamplerPPO]


@harness.hookimpl
def harness_judges() -> list[type[harness.Judge]]:
    return [Brevity]
