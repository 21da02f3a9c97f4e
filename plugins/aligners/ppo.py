"""Proximal policy optimisation against a reward (Schulman et al., 2017; Ouyang et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

import harness

SHORTEST_PROMPT = 8


class PPOConfig(harness.TrainingConfig):
    """Options of PPO, by the names of TRL's PPOConfig where it has them.

    One step is an iteration: `rollout_batch_size` answers are sampled, scored and learned from. `max_steps` counts
    iterations; without it, `num_train_epochs` counts passes over the prompts. Each of `num_ppo_epochs` passes over a
    rollout takes `num_mini_batches` optimizer steps, computed `per_device_train_batch_size` answers at a time.

    `critic: separate` trains a copy of the reward model, or of `init` where the reward is a judge; `critic: shared` a value
    head on the policy, which is saved beside it as `value_head.safetensors`.
    """

    learning_rate: float = Field(default=3e-6, gt=0)
    critic_learning_rate: float | None = Field(default=None, gt=0, description="learning_rate, where left out")
    logging_steps: int = Field(default=1, ge=1)
    save_steps: int = Field(default=10, ge=1)
    critic: Literal["separate", "shared"] = Field(
        default="separate", description="a model of its own, or a head on the policy"
    )
    rollout_batch_size: int = Field(default=64, ge=1)
    num_ppo_epochs: int = Field(default=4, ge=1)
    num_mini_batches: int = Field(default=1, ge=1)
    response_length: int = Field(default=64, ge=1, description="most new tokens of an answer")
    temperature: float = Field(default=1.0, gt=0)
    kl_coef: float = Field(default=0.05, ge=0, description="β, the first one where target_kl is given")
    target_kl: float | None = Field(default=None, gt=0, description="nats per answer; makes β adaptive")
    horizon: int = Field(default=10_000, ge=1, description="answers over which an adaptive β reacts")
    cliprange: float = Field(default=0.2, gt=0)
    cliprange_value: float = Field(default=0.2, gt=0)
    vf_coef: float = Field(default=0.1, ge=0)
    gamma: float = Field(default=1.0, ge=0, le=1)
    lam: float = Field(default=0.95, ge=0, le=1)
    whiten_rewards: bool = False
    missing_eos_penalty: float = Field(default=1.0, ge=0, description="in deviations of the reference policy's scores")
    entropy_coef: float = Field(default=0.0, ge=0)
    early_stop_kl: float | None = Field(default=None, gt=0, description="nats per token from the rollout's policy")
    checkpoints: int = Field(default=0, ge=0, description="policies along the way to evaluate, the last one included")

    @model_validator(mode="after")
    def _consistent(self) -> PPOConfig:
        if unread := sorted(name for name in self.args if name.startswith("torch_compile")):
            raise ValueError(f"args: ppo does not read {unread[0]}; leave it out")
        if self.gradient_accumulation_steps != 1:
            raise ValueError(
                "gradient_accumulation_steps: follows from rollout_batch_size, num_mini_batches and "
                "per_device_train_batch_size; leave it out"
            )
        if self.num_mini_batches > self.rollout_batch_size:
            raise ValueError("num_mini_batches: more than rollout_batch_size answers cannot be made")
        if self.response_length + SHORTEST_PROMPT > self.max_length:
            raise ValueError("response_length: leaves a prompt no room in max_length")
        if self.target_kl is not None and self.kl_coef == 0:
            raise ValueError("kl_coef: target_kl multiplies it, and 0 stays 0; give the β to start from")
        if self.target_kl is None and "horizon" in self.model_fields_set:
            raise ValueError("horizon: only an adaptive β reads it; give target_kl, or leave it out")
        if self.target_kl is not None and self.horizon < self.rollout_batch_size:
            raise ValueError(
                f"horizon: {self.horizon} answers are fewer than the {self.rollout_batch_size} of one rollout, after which β is "
                "steered; raise it"
            )
        return self


class PPO(harness.Aligner):
    """Trains a policy on its own answers, scored by a reward model or a judge, with a KL penalty towards where it began."""

    name = "ppo"
    takes: ClassVar[Mapping[str, str]] = {"init": "model", "reward": "reward-model | scoring-judge", "data": "prompts"}
    gives = "model"
    Config = PPOConfig

    def run(self, config: PPOConfig, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train and save the policy. Raises StageError, DataError."""
        from .ppo_training import PPOTraining

        PPOTraining(config, inputs["init"], inputs["reward"], inputs["data"], context).run()
