"""The terms of PPO's objective, elementwise: the caller sums them and divides by the number of tokens of a whole minibatch,
so that neither loss nor gradient depends on how it is cut into micro-batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch


def policy_terms(
    logprobs: torch.Tensor, old_logprobs: torch.Tensor, advantages: torch.Tensor, cliprange: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clipped surrogate loss, probability ratio, and whether clipping was active (Schulman et al., 2017, eq. 7).

    All tensors have one shape. loss = max(−A ρ, −A clip(ρ, 1 ± ε)) with ρ = π(a|s) / π_old(a|s).
    """
    ratio = (logprobs - old_logprobs).exp()
    free = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    return torch.maximum(free, clipped), ratio, clipped > free


def value_terms(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, cliprange: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """½ max((V − R)², (V_clip − R)²), V_clip within ± ε of the old value; and whether clipping was active.

    All tensors have one shape (Huang et al., 2024, arXiv 2403.17031).
    """
    clipped = old_values + (values - old_values).clamp(-cliprange, cliprange)
    free_error, clipped_error = (values - returns).square(), (clipped - returns).square()
    return 0.5 * torch.maximum(free_error, clipped_error), clipped_error > free_error


def entropies(logits: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of each distribution: logits (N, V) → (N,)."""
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


def k1(logprobs: torch.Tensor, ref_logprobs: torch.Tensor) -> torch.Tensor:
    """log π − log π_ref at sampled tokens: unbiased for KL(π ‖ π_ref), may be negative (Schulman, 2020)."""
    return logprobs - ref_logprobs


def k3(logprobs: torch.Tensor, ref_logprobs: torch.Tensor) -> torch.Tensor:
    """exp(d) − 1 − d with d = log π_ref − log π: unbiased for KL(π ‖ π_ref), never negative (Schulman, 2020)."""
    difference = ref_logprobs - logprobs
    return difference.expm1() - difference


@dataclass
class KLController:
    """The coefficient β of the KL penalty: fixed without a `target`, else steered towards it (Ziegler et al., 2019, §2.2).

    `target` is in nats per answer; `horizon` is in answers, larger is slower.
    """

    coefficient: float
    target: float | None = None
    horizon: int = 10_000

    def update(self, kl: float, answers: int) -> None:
        """β ← β (1 + clip(KL / target − 1, ±0.2) · n / horizon), after `answers` answers with mean KL `kl`."""
        if self.target is None:
            return
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.coefficient *= 1 + error * answers / self.horizon
