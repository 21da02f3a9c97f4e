"""A tiny world to run PPO's loop in: two layers, seven prompts' worth of words, a stage's context that keeps what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness_plugins.aligners.ppo import PPO, PPOConfig
from harness_plugins.aligners.ppo_training import PPOTraining
from safetensors.torch import load_file
from tiny_model import TINY

import harness
from harness.engine.base import build_base
from harness.engine.models import reward_model_from, save_model

COMPUTE = harness.Compute("cpu", "fp32", 1)
WORDS = ("fox", "dog", "quick brown", "lazy", "over the moon", "city of light", "day")
OPTIONS = {
    "max_steps": 4,
    "rollout_batch_size": 8,
    "per_device_train_batch_size": 4,
    "num_ppo_epochs": 2,
    "num_mini_batches": 2,
    "response_length": 8,
    "max_length": 64,
    "learning_rate": 3e-3,
}


class Context:
    """Keeps what a stage says; raises in `log` at the step `fail_at`."""

    name, seed = "ppo", 11

    def __init__(self, folder: Path, fail_at: int | None = None, precision: Any = "fp32") -> None:
        self.compute = replace(COMPUTE, precision=precision)
        self.output, self.checkpoints = folder / "output", folder / "checkpoints"
        self.output.mkdir(parents=True, exist_ok=True)
        self.checkpoints.mkdir(exist_ok=True)
        self.fail_at = fail_at
        self.logged: dict[int, dict[str, float]] = {}
        self.rewound: list[int] = []
        self.notes: list[str] = []

    def log(self, step: int, values: dict[str, float], total: int | None = None) -> None:
        if step == self.fail_at:
            raise KeyboardInterrupt
        self.logged[step] = dict(values)

    def rewind(self, step: int) -> None:
        self.rewound.append(step)

    def note(self, text: str) -> None:
        self.notes.append(text)


def make_inputs(folder: Path) -> dict[str, Any]:
    """What fills the slots: a base, a reward model on it, 14 prompts."""
    build_base(TINY, list(WORDS) * 20, folder / "base", COMPUTE, seed=3)
    save_model(*reward_model_from(folder / "base", COMPUTE, seed=4), folder / "reward")
    rows = tuple(
        harness.PromptRow(id=str(i), root=str(i), prompt=(harness.Message(role="user", content=f"{word} {i}"),))
        for i, word in enumerate(WORDS * 2)
    )
    return {
        "init": harness.Artifact("base", "model", folder / "base", "1"),
        "reward": harness.Artifact("reward", "reward-model", folder / "reward", "2"),
        "data": harness.Dataset("words", "prompts", rows, "3"),
    }


def run(inputs: dict[str, Any], folder: Path, fail_at: int | None = None, **options: Any) -> Context:
    """A stage from its start, or from its newest checkpoint, to its end."""
    context = Context(folder, fail_at)
    PPO().run(PPOConfig(**OPTIONS | options), inputs, context)  # type: ignore[arg-type]
    return context


def training(inputs: dict[str, Any], folder: Path, precision: Any = "fp32", **options: Any) -> PPOTraining:
    """The loop, ready to run."""
    context: Any = Context(folder, precision=precision)
    return PPOTraining(PPOConfig(**OPTIONS | options), inputs["init"], inputs["reward"], inputs["data"], context)


def weights(context: Context) -> dict[str, Any]:
    """The saved policy."""
    return load_file(context.output / "model.safetensors")
