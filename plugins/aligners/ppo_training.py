"""The loop of PPO, in the order in which it runs: sample, score, penalise, estimate advantages, update.

Its many small decisions follow "The N+ Implementation Details of RLHF with PPO" (Huang et al., 2024, arXiv 2403.17031);
docs/ppo.md lists them, each with its source and its test. Every random draw is a function of the seed and the iteration, and
dropout is off, so a resumed run has no generator to restore.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.nn.utils.rnn import pad_sequence

import harness
from harness.engine.advantages import (
    explained_variance,
    generalized_advantages,
    masked_mean,
    masked_whiten,
    token_rewards,
)
from harness.engine.chat import stop_ids, tokenize_prompts
from harness.engine.checkpoints import load_checkpoint, save_checkpoint
from harness.engine.critic import VALUE_HEAD, critic_from, head_values, load_value_head, save_value_head, value_head
from harness.engine.generate import generate
from harness.engine.likelihood import (
    AnswerBatch,
    TokenSequence,
    answer_logits,
    answer_states,
    chosen_logprobs,
    collate,
    map_answers,
    token_logprobs,
)
from harness.engine.lora import (
    adapters_off,
    add_lora,
    load_trainable_state,
    merge_lora,
    trainable_parameters,
    trainable_state,
)
from harness.engine.micro_batches import MicroBatches
from harness.engine.models import (
    autocast,
    keep_freed_memory,
    load_policy,
    save_model,
    token_values,
    use_threads,
)
from harness.engine.objectives import KLController, entropies, k1, k3, policy_terms, value_terms
from harness.engine.optimization import advance, make_optimizer, make_scheduler
from harness.engine.rollouts import RewardScaling, Rollout, Targets, answer_mask, distinct_bigrams, repeated_answers
from harness.engine.training import RowOrder, apply_arguments, derived_seed
from harness.engine.trajectory import Trajectory

from .ppo_rewards import JudgeReward, ModelReward
from .rows import usable_length

if TYPE_CHECKING:
    from .ppo import PPOConfig

MAX_RATIO = 10.0
"""A minibatch whose mean probability ratio exceeds this is skipped: its gradient would be an accident."""

ADAM_EPSILON = 1e-5

MEASURED = ("policy_loss", "value_loss", "approx_kl", "clip_fraction", "value_clip_fraction", "ratio")


def summary(iterations: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What to log of several iterations: means, but the number of all skipped minibatches, and what the last one came to."""
    names = dict.fromkeys(name for measured in iterations for name in measured)
    means = {name: fmean(measured[name] for measured in iterations if name in measured) for name in names}
    skipped = sum(measured["skipped"] for measured in iterations)
    return means | {"skipped": skipped} | {name: iterations[-1][name] for name in ("beta", "lr", "critic_lr")}


class PPOTraining:
    """Owns the models (policy, reference, critic), the reward and the two optimizers of one PPO stage.

    With LoRA the reference is the policy without its adapters; with a shared critic `critic` is a value head on the policy.
    `critic_knows_scores` where the critic begins as the reward model, or as the head of an earlier stage: it then foretells
    scores as they are given, not rewards.
    """

    def __init__(
        self,
        config: PPOConfig,
        init: harness.Artifact,
        reward: harness.Artifact | harness.Scorer,
        data: harness.Dataset,
        context: harness.StageContext,
    ) -> None:
        self.config, self.context, self.compute = config, context, context.compute
        use_threads(self.compute)
        keep_freed_memory()
        self.policy, self.tokenizer = load_policy(init.path, self.compute, disable_dropout=True)
        self.reference = None if config.lora else load_policy(init.path, self.compute, disable_dropout=True)[0]
        self.pad_id: int = self.tokenizer.pad_token_id
        self.stop = stop_ids(self.tokenizer, self.policy)
        self.reward = (
            JudgeReward(reward, self.tokenizer, self.stop, context)
            if isinstance(reward, harness.Scorer)
            else ModelReward(reward, self.policy, self.tokenizer, context)
        )
        self.shared = config.critic == "shared"
        if self.shared:
            head = load_value_head(init.path, self.policy, self.compute.device, self.reward.key)
            self.critic_knows_scores = head is not None
            if head is None and (init.path / VALUE_HEAD).exists():
                context.note("init has a value head for another reward: a fresh one takes its place")
            self.critic: Any = head or value_head(self.policy, self.compute.device)
        else:
            self.critic_knows_scores = isinstance(self.reward, ModelReward)
            self.critic = (
                self.reward.open() if isinstance(self.reward, ModelReward) else critic_from(init.path, self.compute)
            )
        if config.lora:
            add_lora(self.policy, config.lora, derived_seed(context.seed, "policy"))
            if not self.shared:
                add_lora(self.critic, config.lora, derived_seed(context.seed, "critic"))
        self.learned = [self.policy] if self.shared else [self.policy, self.critic]
        for model in self.learned:
            apply_arguments(model, config.args)
        self.batches = MicroBatches.of(self.policy, config.per_device_train_batch_size, self.compute)
        # In fp32 the sampler's log-probabilities are those of the update's pass, to rounding. In bf16 they are not: a pass
        # with a cache rounds elsewhere, and the first ratio would be off by a per cent. A shared critic needs the pass anyway.
        self.sampler_knows = self.compute.precision == "fp32" and not self.shared
        self.rows, self.prompts = self._tokenize(data)
        self.steps = config.max_steps
        if self.steps <= 0:
            self.steps = math.ceil(config.num_train_epochs * len(self.prompts) / config.rollout_batch_size)
        self.order = RowOrder(len(self.prompts), context.seed, "prompts")
        self.kl = KLController(config.kl_coef, config.target_kl, config.horizon)
        self.scaling: RewardScaling | None = None
        self.tokens = 0
        self.unlogged: list[dict[str, float]] = []
        rates = (config.learning_rate, config.critic_learning_rate or config.learning_rate)
        self.optimizers = [
            make_optimizer(model, config, learning_rate=rate, adam_epsilon=ADAM_EPSILON)
            for model, rate in zip((self.policy, self.critic), rates, strict=True)
        ]
        self.schedulers = [make_scheduler(optimizer, config, self.steps) for optimizer in self.optimizers]
        self.trajectory = Trajectory(self.policy, self.tokenizer, config.checkpoints, context)

    def run(self) -> None:
        """All iterations, from the newest good checkpoint on; then save the policy. Raises StageError."""
        done = self._resume()
        for step in range(done + 1, self.steps + 1):
            rollout, described = self.sample(step)
            targets, measured = self.estimate(rollout)
            measured |= described | self.update(step, rollout, targets)
            for scheduler in self.schedulers:
                advance(scheduler, -measured["reward"])  # what it should make small
            self.unlogged.append(measured)
            if step % self.config.logging_steps == 0 or step == self.steps:
                self.context.log(step, summary(self.unlogged) | {"num_tokens": self.tokens}, self.steps)
                self.unlogged = []
            self.trajectory.keep(step, self.steps)
            if step % self.config.save_steps == 0 and step < self.steps:
                save_checkpoint(self.context.checkpoints, step, self._state())
        self._save()

    # --- one iteration ----------------------------------------------------------------------------------------------------

    def sample(self, step: int) -> tuple[Rollout, dict[str, float]]:
        """Answer this iteration's prompts with the policy as it is, and look at the answers with all models, once each.

        Sampling has no top-k and no top-p: log-probabilities of a distribution other than the sampled one make ratio and KL
        wrong. An answer ends with its first stop token, and nothing behind it is seen by anyone.
        """
        size = self.config.rollout_batch_size
        places = self.order.rows((step - 1) * size, step * size)
        prompts = [self.prompts[place] for place in places]
        answers = generate(
            self.policy,
            prompts,
            [derived_seed(self.context.seed, "sample", step, row) for row in range(len(prompts))],
            self.compute,
            max_new_tokens=self.config.response_length,
            stop=self.stop,
            pad_id=self.pad_id,
            temperature=self.config.temperature,
            logprobs=self.sampler_knows,
        )
        ids = [answer.ids for answer in answers]
        sequences = [TokenSequence(prompt, each) for prompt, each in zip(prompts, ids, strict=True)]
        self.tokens += sum(map(len, prompts)) + sum(map(len, ids))
        with adapters_off(self.policy) if self.reference is None else contextlib.nullcontext():
            reference = self.policy if self.reference is None else self.reference
            ref_logprobs = self._rows(
                token_logprobs(reference, sequences, self.compute, pad_id=self.pad_id, temperature=self.config.temperature)
            )
        if self.sampler_knows:
            logprobs = self._rows([torch.tensor(answer.logprobs) for answer in answers])
            values = self._rows(map_answers(self._values, self.critic, sequences, self.compute, pad_id=self.pad_id))
        else:
            both = map_answers(self._logprobs_and_values, self.policy, sequences, self.compute, pad_id=self.pad_id)
            logprobs, values = self._rows(both).unbind(-1)
        device = self.compute.device
        scores = self.reward.score([self.rows[place] for place in places], sequences).to(device)
        scored = ~scores.isnan()
        rollout = Rollout(
            sequences=sequences,
            scores=torch.where(scored, scores, scores.nanmean()),
            scored=scored,
            stopped=torch.tensor([answer.finish == "stop" for answer in answers], device=device),
            mask=answer_mask(list(map(len, ids)), device),
            logprobs=logprobs,
            ref_logprobs=ref_logprobs,
            values=values,
        )
        described = {"distinct_2": distinct_bigrams(ids), "repeated_answers": repeated_answers(ids)}
        if isinstance(self.reward, JudgeReward):
            described["unscored"] = float((~scored).float().mean())
        return rollout, described

    def estimate(self, rollout: Rollout) -> tuple[Targets, dict[str, float]]:
        """Rewards and advantages of a rollout, and what it says of the policy. Moves an adaptive β afterwards.

        An answer that was cut off gets `missing_eos_penalty` off its score: it must not pay to go on for ever.
        """
        config, mask = self.config, rollout.mask
        if self.scaling is None:  # the first rollout: the policy still is the reference
            known = rollout.scores[rollout.scored]
            self.scaling = RewardScaling.of(known)
            if known.std(correction=0) < 1e-6:
                self.context.note(f"all {len(known)} first answers score {self.scaling.mean:g}: rewards are not scaled")
        scores = self.scaling(rollout.scores) - config.missing_eos_penalty * ~rollout.stopped
        beta = self.kl.coefficient
        rewards = token_rewards(scores, rollout.logprobs, rollout.ref_logprobs, mask, beta)
        reward = float(rewards.sum(-1).mean())
        if config.whiten_rewards:
            rewards = masked_whiten(rewards, mask, shift_mean=False)
        values = self._in_rewards(rollout.values)
        advantages, returns = generalized_advantages(rewards, values, mask, config.gamma, config.lam)
        kl = float(k1(rollout.logprobs, rollout.ref_logprobs).sum(-1).mean())
        self.kl.update(kl, len(mask))
        return Targets(masked_whiten(advantages, mask), returns), {
            "reward": reward,
            "score": float(rollout.scores.mean()),
            "kl": kl,
            "beta": beta,
            # −log π of what was sampled: an unbiased estimate of the entropy, for free.
            "entropy": float(-masked_mean(rollout.logprobs, mask)),
            "ref_logprob": float(masked_mean(rollout.ref_logprobs, mask)),
            "length": float(mask.sum(-1).float().mean()),
            "missing_eos": float((~rollout.stopped).float().mean()),
            "explained_variance": explained_variance(values, returns, mask),
        }

    def update(self, step: int, rollout: Rollout, targets: Targets) -> dict[str, float]:
        """Several passes over the rollout in fresh random minibatches; the mean of what they measured."""
        generator = torch.Generator().manual_seed(derived_seed(self.context.seed, "shuffle", step))
        taken: list[dict[str, float]] = []
        skipped = epochs = 0
        # Layers are computed again, where activation checkpointing is on, in training mode only. No dropout comes with it.
        for model in self.learned:
            model.train()
        while epochs < self.config.num_ppo_epochs:
            order = torch.randperm(len(rollout.sequences), generator=generator)
            parts = [
                self._minibatch(step, rollout, targets, rows) for rows in order.tensor_split(self.config.num_mini_batches)
            ]
            # A skipped minibatch counts as skipped and nowhere else: its losses may well be infinite.
            epoch = [part for part in parts if part is not None]
            taken, skipped, epochs = taken + epoch, skipped + len(parts) - len(epoch), epochs + 1
            if epoch and self.config.early_stop_kl is not None:
                drift = sum(part["approx_kl"] for part in epoch) / len(epoch)
                if drift > self.config.early_stop_kl:
                    break
        for model in self.learned:
            model.eval()
        means = {name: sum(part[name] for part in taken) / len(taken) for name in taken[0]} if taken else {}
        learning_rates = [scheduler.get_last_lr()[0] for scheduler in self.schedulers]
        return means | {
            "skipped": skipped,
            "epochs": epochs,
            "lr": learning_rates[0],
            "critic_lr": learning_rates[1],
        }

    def _minibatch(self, step: int, rollout: Rollout, targets: Targets, rows: torch.Tensor) -> dict[str, float] | None:
        """One optimizer step on the answers `rows`, summed over micro-batches of similar length; None if it is skipped.

        Sums are divided by the minibatch's number of tokens, never by a micro-batch's: the gradient does not depend on how
        the minibatch was cut.
        """
        config, count = self.config, rollout.mask[rows].sum()
        sums = torch.zeros(len(MEASURED), device=self.compute.device)
        sequences = [rollout.sequences[row] for row in rows.tolist()]
        lengths = [len(sequence.prompt_ids) + len(sequence.answer_ids) for sequence in sequences]

        def clear() -> None:
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            sums.zero_()

        def add(places: list[int]) -> None:
            sums.add_(self._micro_batch(rollout, targets, rows[places], count))

        self.batches.accumulate(lengths, clear, add)
        measured = dict(zip(MEASURED, (sums / count).tolist(), strict=True))
        if measured["ratio"] > MAX_RATIO:
            return None
        for name, model in (("grad_norm", self.policy), ("critic_grad_norm", self.critic)):
            learned = trainable_parameters(model)
            measured[name] = float(clip_grad_norm_(learned, config.max_grad_norm))
            left = get_total_norm([parameter.grad for parameter in learned if parameter.grad is not None])
            measured[f"{name}_clipped"] = float(left)
        for name in ("policy_loss", "value_loss", "grad_norm", "critic_grad_norm"):
            if not math.isfinite(measured[name]):
                raise harness.StageError(
                    f"stage {self.context.name!r}: {name} is {measured[name]} at step {step}; lower learning_rate or raise "
                    "kl_coef"
                )
        for optimizer in self.optimizers:
            optimizer.step()
        return measured

    def _micro_batch(self, rollout: Rollout, targets: Targets, rows: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """Add the gradient of the answers `rows` of a minibatch of `count` tokens; the sums of what `MEASURED` names."""
        config, mask = self.config, rollout.mask[rows]
        batch = collate([rollout.sequences[row] for row in rows.tolist()], self.pad_id, self.compute.device)
        old_logprobs, old_values = rollout.logprobs[rows][mask], self._in_rewards(rollout.values[rows][mask])
        advantages, returns = targets.advantages[rows][mask], targets.returns[rows][mask]

        with autocast(self.compute):
            logits, values = self._forward(batch)
        logits = logits / config.temperature
        logprobs = chosen_logprobs(logits, batch.answer_ids)
        surrogate, ratio, clipped = policy_terms(logprobs, old_logprobs, advantages, config.cliprange)
        squared, value_clipped = value_terms(self._in_rewards(values), old_values, returns, config.cliprange_value)
        loss = surrogate.sum() + config.vf_coef * squared.sum()
        if config.entropy_coef:
            loss = loss - config.entropy_coef * entropies(logits).sum()
        (loss / count).backward()
        with torch.no_grad():
            terms = (surrogate, squared, k3(old_logprobs, logprobs), clipped, value_clipped, ratio)
            return torch.stack([term.sum().float() for term in terms])

    # --- what the models say of answers -----------------------------------------------------------------------------------

    def _forward(self, batch: AnswerBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, V) of the policy and values (N,) of the critic where the batch's N answer tokens are predicted."""
        if self.shared:
            logits, hidden = answer_states(self.policy, batch)
            return logits, head_values(self.critic, hidden)
        return answer_logits(self.policy, batch), self._values(batch)

    def _values(self, batch: AnswerBatch) -> torch.Tensor:
        return token_values(self.critic, batch.input_ids)[batch.predicts]

    def _in_rewards(self, values: torch.Tensor) -> torch.Tensor:
        """Values in the unit of rewards: those of a critic that speaks of scores are scaled as scores are."""
        return self.scaling(values) if self.critic_knows_scores and self.scaling is not None else values

    def _logprobs_and_values(self, batch: AnswerBatch) -> torch.Tensor:
        logits, values = self._forward(batch)
        return torch.stack([chosen_logprobs(logits / self.config.temperature, batch.answer_ids), values], dim=-1)

    def _rows(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """What each answer's tokens have, (R_i, ...), as one tensor (B, R, ...) with zeros beyond an answer's end."""
        return pad_sequence(list(parts), batch_first=True).to(self.compute.device)

    # --- data and models --------------------------------------------------------------------------------------------------

    def _tokenize(self, data: harness.Dataset) -> tuple[list[harness.PromptRow], list[list[int]]]:
        models = [self.policy, self.reward.model] if isinstance(self.reward, ModelReward) else [self.policy]
        max_length, response_length = usable_length(self.config, self.context, *models), self.config.response_length
        encoded, counts = tokenize_prompts(data.rows, self.tokenizer, max_length, response_length)
        kept = [(row, ids) for row, ids in zip(data.rows, encoded, strict=True) if ids is not None]
        over_long = len(data.rows) - len(kept)
        if not kept or over_long > data.max_dropped * len(data.rows):
            raise harness.DataError(
                f"stage {self.context.name!r}: {over_long} of {len(data.rows)} prompts of {data.reference} leave no room "
                f"for {response_length} new tokens in {max_length}; raise max_length, or lower response_length"
            )
        if any(counts.values()):
            told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
            self.context.note(f"{data.reference}: of {len(data.rows)} prompts {told}")
        return [row for row, _ in kept], [ids for _, ids in kept]

    def _save(self) -> None:
        """The policy, adapters merged in; its value head where it has one; the scale of its rewards."""
        output = self.context.output
        merge_lora(self.policy)
        save_model(self.policy, self.tokenizer, output)
        self.trajectory.collect()
        assert self.scaling is not None, "there is a step, and its rollout was scaled"
        if self.shared:
            unit = () if self.critic_knows_scores else (self.scaling.mean, self.scaling.deviation)
            save_value_head(self.critic, output, self.reward.key, *unit)
        text = json.dumps(asdict(self.scaling), indent=1) + "\n"
        (output / "reward_scaling.json").write_text(text, encoding="utf-8")

    # --- checkpoints ------------------------------------------------------------------------------------------------------

    def _state(self) -> Mapping[str, Any]:
        return {
            "policy": trainable_state(self.policy),
            "critic": trainable_state(self.critic),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "beta": self.kl.coefficient,
            "tokens": self.tokens,
            "unlogged": self.unlogged,
            "scaling": asdict(self.scaling) if self.scaling is not None else None,
        }

    def _resume(self) -> int:
        """Take up the newest good checkpoint; the iterations that are done."""
        found = load_checkpoint(self.context.checkpoints, self.compute.device)
        if found is None:
            return 0
        step, state = found
        load_trainable_state(self.policy, state["policy"])
        load_trainable_state(self.critic, state["critic"])
        for part, saved in zip(self.optimizers, state["optimizers"], strict=True):
            part.load_state_dict(saved)
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        self.kl.coefficient = state["beta"]
        self.tokens, self.unlogged = state["tokens"], state["unlogged"]
        self.scaling = RewardScaling(**state["scaling"]) if state["scaling"] is not None else None
        self.context.note(f"goes on from its checkpoint at step {step}")
        self.context.rewind(step)
        return step
