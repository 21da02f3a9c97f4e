"""A plugin of broken things: each breaks a training run in one known way, so that a health rule has something to see."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from harness_plugins.aligners.dpo import DPO
from harness_plugins.aligners.ppo import PPO
from harness_plugins.aligners.reward import RewardModel

import harness


class WrongSignDPO(DPO):
    """DPO with the sign of its loss turned round: label smoothing of 1 takes every rejected answer for the chosen one."""

    name = "dpo-wrong-sign"

    def run(self, config: Any, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train on the opposite. `model_copy` does not validate, so the bound on label smoothing does not hold here."""
        super().run(config.model_copy(update={"label_smoothing": 1.0}), inputs, context)


class LostHeadReward(RewardModel):
    """A reward model whose head is not saved, as happens to a head beside an adapter: what is read back is a fresh one."""

    name = "reward-lost-head"

    def run(self, config: Any, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train as ever, and save another head."""
        from harness.engine import models

        def save(save_model: Any) -> Any:
            def without_head(model: Any, *arguments: Any) -> None:
                broken = copy.deepcopy(model)
                models.score_head(broken).reset_parameters()
                save_model(broken, *arguments)

            return without_head

        with _replaced(models, "save_model", save):
            super().run(config, inputs, context)


class StaleSamplerPPO(PPO):
    """PPO whose sampler keeps the weights that it began with, as an inference engine does that is never sent new ones."""

    name = "ppo-stale-sampler"

    def run(self, config: Any, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train on answers that another model wrote."""
        from harness_plugins.aligners import ppo_training

        def stale(generate: Any) -> Any:
            first: list[Any] = []

            def from_first(model: Any, *arguments: Any, **options: Any) -> Any:
                if not first:
                    first.append(copy.deepcopy(model))
                return generate(first[0], *arguments, **options)

            return from_first

        with _replaced(ppo_training, "generate", stale):
            super().run(config, inputs, context)


class RawAdvantagePPO(PPO):
    """PPO that leaves advantages at the scale of the rewards, instead of whitening them."""

    name = "ppo-raw-advantages"

    def run(self, config: Any, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train on advantages of any size."""
        from harness_plugins.aligners import ppo_training

        def raw(_: Any) -> Any:
            return lambda values, *_, **__: values

        with _replaced(ppo_training, "masked_whiten", raw):
            super().run(config, inputs, context)


class WrongEntropyPPO(PPO):
    """PPO whose entropy bonus has the wrong sign: it pays for certainty."""

    name = "ppo-wrong-entropy"

    def run(self, config: Any, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train with the coefficient turned round."""
        super().run(config.model_copy(update={"entropy_coef": -config.entropy_coef}), inputs, context)


class LeapingPPO(PPO):
    """PPO whose learning rate is 0.3 from its ninth iteration on, as by a schedule with a mistake in it."""

    name = "ppo-leaping"

    def run(self, config: Any, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train in small steps first, and then in huge ones."""
        from harness_plugins.aligners import ppo_training

        def leap(advance: Any) -> Any:
            def and_leap(scheduler: Any, measured: float) -> None:
                advance(scheduler, measured)
                if scheduler.last_epoch >= 8:
                    for group in scheduler.optimizer.param_groups:
                        group["lr"] = 0.3

            return and_leap

        with _replaced(ppo_training, "advance", leap):
            super().run(config, inputs, context)


@contextmanager
def _replaced(module: Any, name: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """A function of a module, wrapped while this is open."""
    original = getattr(module, name)
    setattr(module, name, wrap(original))
    try:
        yield
    finally:
        setattr(module, name, original)


class Brevity(harness.ScoringJudge):
    """Prefers the shorter answer: the opposite of what a reward model that was trained on length likes."""

    name = "brevity"

    def score(
        self,
        prompts: Sequence[harness.Prompt],
        answers: Sequence[str],
        config: Any,
        inputs: Mapping[str, harness.Artifact],
        context: harness.JudgeContext,
    ) -> list[float | None]:
        """Minus the number of characters."""
        return [-float(len(answer)) for answer in answers]


@harness.hookimpl
def harness_aligners() -> list[type[harness.Aligner]]:
    return [LostHeadReward, WrongSignDPO, StaleSamplerPPO, RawAdvantagePPO, WrongEntropyPPO, LeapingPPO]


@harness.hookimpl
def harness_judges() -> list[type[harness.Judge]]:
    return [Brevity]
