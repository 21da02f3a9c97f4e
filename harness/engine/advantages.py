"""Per-token rewards, advantages and the masked statistics around them. Rows are answers, padded on the right."""

from __future__ import annotations

import torch


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of `values` where `mask` is true; both (B, R), the result a scalar."""
    return (values * mask).sum() / mask.sum()


def masked_whiten(values: torch.Tensor, mask: torch.Tensor, shift_mean: bool = True) -> torch.Tensor:
    """`values` (B, R) with unit variance and mean zero over all masked positions, or without `shift_mean` their own; 0 elsewhere.

    (values − mean) / deviation (+ mean), as Ziegler et al. (2019) whiten (Huang et al., 2024). The variance is the population's,
    with 1e-8 added: equal values give zeros instead of NaN.
    """
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean).square(), mask)
    whitened = (values - mean) * (variance + 1e-8).rsqrt()
    return (whitened if shift_mean else whitened + mean) * mask


def token_rewards(
    scores: torch.Tensor, logprobs: torch.Tensor, ref_logprobs: torch.Tensor, mask: torch.Tensor, kl_coef: float
) -> torch.Tensor:
    """−β (log π − log π_ref) at every token, plus the answer's score at its last one (Ziegler et al., 2019, eq. 2).

    scores (B,), the others (B, R) → (B, R), 0 where `mask` is false. Every row has at least one token.
    """
    rewards = -kl_coef * (logprobs - ref_logprobs) * mask
    last = mask.long().sum(-1, keepdim=True) - 1
    return rewards.scatter_add(1, last, scores.to(rewards.dtype).unsqueeze(-1))


def generalized_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalized advantage estimates and their value targets, (B, R) each (Schulman et al., 2016, eq. 16).

    δ_t = r_t + γ V_{t+1} − V_t and A_t = δ_t + γλ A_{t+1}, both zero beyond the answer's last token: an answer is a whole
    episode. The targets are A_t + V_t.
    """
    values = values * mask
    advantages = torch.zeros_like(values)
    following = next_value = torch.zeros_like(values[:, 0])
    for step in reversed(range(values.shape[1])):
        delta = rewards[:, step] + gamma * next_value - values[:, step]
        following = (delta + gamma * lam * following) * mask[:, step]
        advantages[:, step] = following
        next_value = values[:, step]
    return advantages, (advantages + values) * mask


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> float:
    """1 − Var(returns − values) / Var(returns), variances as masked means; all (B, R).

    1 is a perfect critic, 0 one that knows the mean, below 0 one that is worse than that. 0 where all returns are equal.
    """
    error = returns - values
    variance = masked_mean((returns - masked_mean(returns, mask)).square(), mask)
    left = masked_mean((error - masked_mean(error, mask)).square(), mask)
    return float(1 - left / variance) if variance > 0 else 0.0
