"""The loop of PPO, in the order in which it runs: sample, score, penalise, estimate advantages, update.

Its many small decisions follow "The N Implementation Details of RLHF with PPO" (Huang et al., 2024). Every random draw is a
function of the seed and the iteration, and dropout is off, so a resumed run has no generator to restore.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence
from transformers import get_scheduler

import harness
from harness.engine.advantages import (
    explained_variance,
    generalized_advantages,
    masked_mean,
    masked_whiten,
    token_rewards,
)
from harness.engine.batching import length_batches
from harness.engine.chat import stop_ids, tokenize_prompts
from harness.engine.checkpoints import load_checkpoint, save_checkpoint
from harness.engine.generate import generate
from harness.engine.likelihood import (
    AnswerBatch,
    TokenSequence,
    answer_logits,
    chosen_logprobs,
    collate,
    token_logprobs,
)
from harness.engine.models import autocast, load_policy, load_reward_model, save_model, token_values, use_threads
from harness.engine.objectives import KLController, entropies, k1, k3, policy_terms, value_terms
from harness.engine.score import score_sequences

if TYPE_CHECKING:
    from .ppo import PPOConfig

MAX_RATIO = 10.0
"""A minibatch whose mean probability ratio exceeds this is skipped: its gradient would be an accident."""

ADAM_EPSILON = 1e-5


@dataclass(frozen=True)
class RewardScaling:
    """Mean and deviation of the reward model's scores on the reference policy's answers, and how many they were.

    A score s enters the reward as (s − mean) / deviation, so that β means the same whatever the reward model's scale.
    """

    mean: float
    deviation: float
    answers: int


@dataclass(frozen=True)
class Rollout:
    """B answers of at most R tokens, and what was known of them when they were sampled.

    scores (B,) as the reward model gives them, stopped (B,) bool; mask (B, R) bool, padding on the right; logprobs,
    ref_logprobs and values (B, R), 0 where the mask is false. The value at an answer's token is that of the state before
    it.
    """

    sequences: Sequence[TokenSequence]
    scores: torch.Tensor
    stopped: torch.Tensor
    mask: torch.Tensor
    logprobs: torch.Tensor
    ref_logprobs: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True)
class Targets:
    """What a rollout teaches: whitened advantages and value targets, (B, R) each."""

    advantages: torch.Tensor
    returns: torch.Tensor


class PPOTraining:
    """Owns the four models (policy, reference, reward model, critic) and the two optimisers of one PPO stage."""

    def __init__(
        self,
        config: PPOConfig,
        init: harness.Artifact,
        reward: harness.Artifact,
        data: harness.Dataset,
        context: harness.StageContext,
    ) -> None:
        self.config, self.context, self.compute = config, context, context.compute
        use_threads(self.compute)
        self.policy, self.tokenizer = load_policy(init.path, self.compute, disable_dropout=True)
        self.reference, _ = load_policy(init.path, self.compute)
        self.reward_model, reward_tokenizer = load_reward_model(reward.path, self.compute)
        self.critic, _ = load_reward_model(reward.path, self.compute, disable_dropout=True)
        if reward_tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise harness.StageError(
                f"stage {context.name!r}: init and reward have different vocabularies; train both from one base"
            )
        self.pad_id: int = self.tokenizer.pad_token_id
        self.stop = stop_ids(self.tokenizer, self.policy)
        self.prompts = self._tokenize(data)
        self.steps = config.max_steps
        if self.steps < 0:
            self.steps = math.ceil(config.num_train_epochs * len(self.prompts) / config.rollout_batch_size)
        self.kl = KLController(config.kl_coef, config.target_kl, config.horizon)
        self.scaling: RewardScaling | None = None
        self.tokens = 0
        self.optimizers = [
            self._optimizer(self.policy, config.learning_rate),
            self._optimizer(self.critic, config.critic_learning_rate or config.learning_rate),
        ]
        self.schedulers = [self._scheduler(optimizer) for optimizer in self.optimizers]

    def run(self) -> None:
        """All iterations, from the newest good checkpoint on; then save the policy. Raises StageError."""
        done = self._resume()
        for step in range(done + 1, self.steps + 1):
            rollout = self.sample(step)
            targets, measured = self.estimate(rollout)
            measured |= self.update(step, rollout, targets)
            for scheduler in self.schedulers:
                scheduler.step()
            if step % self.config.logging_steps == 0 or step == self.steps:
                self.context.log(step, measured | {"num_tokens": self.tokens}, self.steps)
            if step % self.config.save_steps == 0 and step < self.steps:
                save_checkpoint(self.context.checkpoints, step, self._state())
        save_model(self.policy, self.tokenizer, self.context.output)
        if self.scaling is not None:
            text = json.dumps(asdict(self.scaling), indent=1) + "\n"
            (self.context.output / "reward_scaling.json").write_text(text, encoding="utf-8")

    # --- one iteration ----------------------------------------------------------------------------------------------------

    def sample(self, step: int) -> Rollout:
        """Answer this iteration's prompts with the policy as it is, and look at the answers with all four models.

        Sampling has no top-k and no top-p: log-probabilities of a distribution other than the sampled one make ratio and KL
        wrong. The log-probabilities come from the same pass that the update makes, not from the sampler, so that the first
        ratio is 1 in bf16 too.
        """
        config = self.config
        prompts = self._prompts_of(step)
        answers = generate(
            self.policy,
            prompts,
            [_seed(self.context.seed, "sample", step, row) for row in range(len(prompts))],
            self.compute,
            max_new_tokens=config.response_length,
            stop=self.stop,
            pad_id=self.pad_id,
            temperature=config.temperature,
        )
        sequences = [TokenSequence(prompt, answer.ids) for prompt, answer in zip(prompts, answers, strict=True)]
        whole = [[*sequence.prompt_ids, *sequence.answer_ids] for sequence in sequences]
        self.tokens += sum(map(len, whole))
        lengths = torch.tensor([len(answer.ids) for answer in answers])
        device = self.compute.device
        return Rollout(
            sequences=sequences,
            scores=score_sequences(self.reward_model, whole, self.compute, pad_id=self.pad_id).to(device),
            stopped=torch.tensor([answer.finish == "stop" for answer in answers], device=device),
            mask=(torch.arange(int(lengths.max())) < lengths.unsqueeze(1)).to(device),
            logprobs=self._answer_logprobs(self.policy, sequences),
            ref_logprobs=self._answer_logprobs(self.reference, sequences),
            values=self._answer_values(sequences),
        )

    def estimate(self, rollout: Rollout) -> tuple[Targets, dict[str, float]]:
        """Rewards and advantages of a rollout, and what it says of the policy. Moves an adaptive β afterwards.

        An answer that was cut off gets `missing_eos_penalty` off its score: it must not pay to go on for ever.
        """
        config, mask = self.config, rollout.mask
        if self.scaling is None:
            self.scaling = self._measure_scaling(rollout.scores)
        scores = (rollout.scores - self.scaling.mean) / self.scaling.deviation
        scores = scores - config.missing_eos_penalty * ~rollout.stopped
        beta = self.kl.coefficient
        rewards = token_rewards(scores, rollout.logprobs, rollout.ref_logprobs, mask, beta)
        reward = float(rewards.sum(-1).mean())
        if config.whiten_rewards:
            rewards = masked_whiten(rewards, mask, shift_mean=False)
        advantages, returns = generalized_advantages(rewards, rollout.values, mask, config.gamma, config.lam)
        kl = float(k1(rollout.logprobs, rollout.ref_logprobs).sum(-1).mean())
        self.kl.update(kl, len(mask))
        return Targets(masked_whiten(advantages, mask), returns), {
            "reward": reward,
            "score": float(rollout.scores.mean()),
            "kl": kl,
            "beta": beta,
            # −log π of what was sampled: an unbiased estimate of the entropy, for free.
            "entropy": float(-masked_mean(rollout.logprobs, mask)),
            "length": float(mask.sum(-1).float().mean()),
            "missing_eos": float((~rollout.stopped).float().mean()),
            "explained_variance": explained_variance(rollout.values, returns, mask),
        }

    def update(self, step: int, rollout: Rollout, targets: Targets) -> dict[str, float]:
        """Several passes over the rollout in fresh random minibatches; the mean of what they measured."""
        generator = torch.Generator().manual_seed(_seed(self.context.seed, "shuffle", step))
        history: list[dict[str, float]] = []
        for _ in range(self.config.num_ppo_epochs):
            order = torch.randperm(len(rollout.sequences), generator=generator)
            epoch = [
                self._minibatch(step, rollout, targets, rows) for rows in order.tensor_split(self.config.num_mini_batches)
            ]
            history += epoch
            drift = sum(part["approx_kl"] for part in epoch) / len(epoch)
            if self.config.early_stop_kl is not None and drift > self.config.early_stop_kl:
                break
        # A skipped minibatch counts as skipped and nowhere else: its losses may well be infinite.
        taken = [part for part in history if not part["skipped"]]
        means = {name: sum(part[name] for part in taken) / len(taken) for name in taken[0]} if taken else {}
        learning_rates = [scheduler.get_last_lr()[0] for scheduler in self.schedulers]
        return means | {
            "skipped": sum(part["skipped"] for part in history),
            "lr": learning_rates[0],
            "critic_lr": learning_rates[1],
        }

    def _minibatch(self, step: int, rollout: Rollout, targets: Targets, rows: torch.Tensor) -> dict[str, float]:
        """One optimiser step on the answers `rows`, summed over micro-batches of similar length.

        Sums are divided by the minibatch's number of tokens, never by a micro-batch's: the gradient does not depend on how
        the minibatch was cut.
        """
        config, count = self.config, rollout.mask[rows].sum()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        names = ("policy_loss", "value_loss", "approx_kl", "clip_fraction", "ratio")
        sums = torch.zeros(len(names), device=self.compute.device)
        lengths = [len(self._whole(rollout.sequences[row])) for row in rows.tolist()]
        for part in length_batches(lengths, config.per_device_train_batch_size, max_tokens=2**31):
            chosen = rows[part]
            mask = rollout.mask[chosen]
            batch = collate([rollout.sequences[row] for row in chosen.tolist()], self.pad_id, self.compute.device)
            old_logprobs, old_values = rollout.logprobs[chosen][mask], rollout.values[chosen][mask]
            advantages, returns = targets.advantages[chosen][mask], targets.returns[chosen][mask]

            with autocast(self.compute):
                logits, values = answer_logits(self.policy, batch), self._values(batch)
            logits = logits / config.temperature
            logprobs = chosen_logprobs(logits, batch.answer_ids)
            surrogate, ratio, clipped = policy_terms(logprobs, old_logprobs, advantages, config.cliprange)
            if config.entropy_coef:
                surrogate = surrogate - config.entropy_coef * entropies(logits)
            squared = value_terms(values, old_values, returns, config.cliprange_value)
            ((surrogate.sum() + config.vf_coef * squared.sum()) / count).backward()
            with torch.no_grad():
                drift = k3(old_logprobs, logprobs)
                sums += torch.stack([term.sum() for term in (surrogate, squared, drift, clipped.float(), ratio)])

        measured = dict(zip(names, (sums / count).tolist(), strict=True))
        if measured["ratio"] > MAX_RATIO:
            return measured | {"skipped": 1.0}
        for name in ("policy_loss", "value_loss"):
            if not math.isfinite(measured[name]):
                raise harness.StageError(
                    f"stage {self.context.name!r}: {name} is {measured[name]} at step {step}; lower learning_rate or raise "
                    "kl_coef"
                )
        norms = [clip_grad_norm_(model.parameters(), config.max_grad_norm) for model in (self.policy, self.critic)]
        for optimizer in self.optimizers:
            optimizer.step()
        return measured | {"grad_norm": float(norms[0]), "critic_grad_norm": float(norms[1]), "skipped": 0.0}

    # --- what the models say of answers -----------------------------------------------------------------------------------

    def _answer_logprobs(self, model: Any, sequences: Sequence[TokenSequence]) -> torch.Tensor:
        """Log-probabilities (B, R) at the sampling temperature, 0 beyond an answer's end, without gradients."""
        parts = token_logprobs(model, sequences, self.compute, pad_id=self.pad_id, temperature=self.config.temperature)
        return pad_sequence(parts, batch_first=True).to(self.compute.device)

    def _answer_values(self, sequences: Sequence[TokenSequence]) -> torch.Tensor:
        """The critic's values (B, R) of the states before each answer token, 0 beyond its end, without gradients."""
        parts: list[torch.Tensor] = [torch.empty(0)] * len(sequences)
        lengths = [len(self._whole(sequence)) for sequence in sequences]
        for rows in length_batches(lengths, max_rows=64, max_tokens=16384):
            batch = collate([sequences[row] for row in rows], self.pad_id, self.compute.device)
            with torch.no_grad(), autocast(self.compute):
                values = self._values(batch)
            sizes = [len(sequences[row].answer_ids) for row in rows]
            for row, part in zip(rows, values.split(sizes), strict=True):
                parts[row] = part
        return pad_sequence(parts, batch_first=True)

    def _values(self, batch: AnswerBatch) -> torch.Tensor:
        """The critic's values (N,) where the policy predicts the batch's N answer tokens."""
        return token_values(self.critic, batch.input_ids)[batch.predicts]

    @staticmethod
    def _whole(sequence: TokenSequence) -> list[int]:
        return [*sequence.prompt_ids, *sequence.answer_ids]

    # --- data, scaling, optimisers ----------------------------------------------------------------------------------------

    def _tokenize(self, data: harness.Dataset) -> list[list[int]]:
        config = self.config
        prompts, counts = tokenize_prompts(data.rows, self.tokenizer, config.max_length, config.response_length)
        over_long = len(data.rows) - len(prompts)
        if not prompts or over_long > data.max_dropped * len(data.rows):
            raise harness.DataError(
                f"stage {self.context.name!r}: {over_long} of {len(data.rows)} prompts of {data.reference} are over-long; "
                "raise max_length, or lower response_length"
            )
        if any(counts.values()):
            told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
            self.context.note(f"{data.reference}: of {len(data.rows)} prompts {told}")
        return prompts

    def _prompts_of(self, step: int) -> list[list[int]]:
        """This iteration's prompts: the stream is one random order of all prompts after another."""
        size, total = self.config.rollout_batch_size, len(self.prompts)
        orders: dict[int, list[int]] = {}
        prompts = []
        for place in range((step - 1) * size, step * size):
            epoch, offset = divmod(place, total)
            if epoch not in orders:
                generator = torch.Generator().manual_seed(_seed(self.context.seed, "prompts", epoch))
                orders[epoch] = torch.randperm(total, generator=generator).tolist()
            prompts.append(self.prompts[orders[epoch][offset]])
        return prompts

    def _measure_scaling(self, scores: torch.Tensor) -> RewardScaling:
        """From the first rollout, while the policy still is the reference."""
        deviation = float(scores.std(correction=0))
        if deviation < 1e-6:
            self.context.note(f"all {len(scores)} first answers score {float(scores[0]):g}: rewards are not scaled")
            deviation = 1.0
        return RewardScaling(float(scores.mean()), deviation, len(scores))

    def _optimizer(self, model: Any, learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            model.parameters(), lr=learning_rate, eps=ADAM_EPSILON, weight_decay=self.config.weight_decay, fused=True
        )

    def _scheduler(self, optimizer: torch.optim.Optimizer) -> Any:
        """Per iteration. `warmup_steps` below 1 is a share of all iterations, as in transformers."""
        warmup = self.config.warmup_steps
        warmup = math.ceil(warmup * self.steps) if warmup < 1 else int(warmup)
        return get_scheduler(self.config.lr_scheduler_type, optimizer, warmup, max(self.steps, 1))

    # --- checkpoints ------------------------------------------------------------------------------------------------------

    def _state(self) -> Mapping[str, Any]:
        return {
            "policy": self.policy.state_dict(),
            "critic": self.critic.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "beta": self.kl.coefficient,
            "tokens": self.tokens,
            "scaling": asdict(self.scaling) if self.scaling is not None else None,
        }

    def _resume(self) -> int:
        """Take up the newest good checkpoint; the iterations that are done."""
        found = load_checkpoint(self.context.checkpoints, self.compute.device)
        if found is None:
            return 0
        step, state = found
        self.policy.load_state_dict(state["policy"])
        self.critic.load_state_dict(state["critic"])
        for part, saved in zip(self.optimizers, state["optimizers"], strict=True):
            part.load_state_dict(saved)
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        self.kl.coefficient = state["beta"]
        self.tokens = state["tokens"]
        self.scaling = RewardScaling(**state["scaling"]) if state["scaling"] is not None else None
        self.context.note(f"goes on from its checkpoint at step {step}")
        self.context.rewind(step)
        return step


def _seed(*parts: object) -> int:
    """A 63-bit seed that follows from its parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1
