"""Losses of pairs, each a function of log-probabilities or scores: one value per pair, in nats where it is a likelihood.

All tensors are (B,). An answer's log-probability is the sum over its tokens, its average the mean over them. A log-ratio is
log π(y|x) − log π_ref(y|x); `margin` is the log-ratio of the chosen answer minus that of the rejected one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid, relu


@dataclass(frozen=True)
class PairLogprobs:
    """What a policy, and a reference where there is one, say of B pairs of answers; all (B,), sums in nats."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor
    ref_chosen: torch.Tensor | None = None
    ref_rejected: torch.Tensor | None = None

    def log_ratios(self) -> tuple[torch.Tensor, torch.Tensor]:
        """log π − log π_ref of the chosen and of the rejected answer. Raises ValueError without a reference."""
        if self.ref_chosen is None or self.ref_rejected is None:
            raise ValueError("this loss compares with a reference, and there are no reference log-probabilities")
        return self.chosen - self.ref_chosen, self.rejected - self.ref_rejected

    def averages(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean log-probability per token of the chosen and of the rejected answer."""
        return self.chosen / self.chosen_tokens, self.rejected / self.rejected_tokens


@dataclass(frozen=True)
class LossOptions:
    """β, the share ε of labels taken to be flipped, and SimPO's target margin γ."""

    beta: float = 0.1
    label_smoothing: float = 0.0
    gamma: float = 0.5


def sigmoid_loss(margin: torch.Tensor, beta: float, label_smoothing: float = 0.0) -> torch.Tensor:
    """−(1 − ε) log σ(β m) − ε log σ(−β m): DPO (Rafailov et al., 2023, eq. 7), conservative with ε > 0 (Mitchell, 2023)."""
    return -(1 - label_smoothing) * logsigmoid(beta * margin) - label_smoothing * logsigmoid(-beta * margin)


def robust_loss(margin: torch.Tensor, beta: float, label_smoothing: float) -> torch.Tensor:
    """(−(1 − ε) log σ(β m) + ε log σ(−β m)) / (1 − 2ε): unbiased under flipped labels (Chowdhury et al., 2024, eq. 11)."""
    kept, flipped = -logsigmoid(beta * margin), -logsigmoid(-beta * margin)
    return ((1 - label_smoothing) * kept - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def ipo_loss(average_margin: torch.Tensor, beta: float) -> torch.Tensor:
    """(m − 1 / 2β)², m the margin of log-ratios averaged over tokens (Azar et al., 2024, eq. 17; averaged as in TRL)."""
    return (average_margin - 1 / (2 * beta)).square()


def hinge_loss(margin: torch.Tensor, beta: float) -> torch.Tensor:
    """max(0, 1 − β m) (Zhao et al., 2023, SLiC-HF, with log-ratios as in Liu et al., 2024, RSO, eq. 9)."""
    return relu(1 - beta * margin)


def simpo_loss(
    chosen_average: torch.Tensor, rejected_average: torch.Tensor, beta: float, gamma: float, label_smoothing: float = 0.0
) -> torch.Tensor:
    """−log σ(β (l_w − l_l) − γ), l the average log-probability per token; no reference (Meng et al., 2024, eq. 6)."""
    target = beta * (chosen_average - rejected_average) - gamma
    return -(1 - label_smoothing) * logsigmoid(target) - label_smoothing * logsigmoid(-target)


def orpo_loss(chosen_average: torch.Tensor, rejected_average: torch.Tensor, beta: float) -> torch.Tensor:
    """−l_w − β log σ(log odds_w − log odds_l), odds = p / (1 − p), p = exp(l); no reference (Hong et al., 2024, eq. 6, 7)."""
    log_odds = [average - _log_complement(average) for average in (chosen_average, rejected_average)]
    return -chosen_average - beta * logsigmoid(log_odds[0] - log_odds[1])


def bradley_terry_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, margin: torch.Tensor | float = 0.0, centering: float = 0.0
) -> torch.Tensor:
    """−log σ(r_w − r_l − m) + c (r_w + r_l)², of scores r (Ouyang et al., 2022, eq. 1).

    m is the margin that a pair should reach (Touvron et al., 2023, eq. 2); c keeps scores around zero (Eisenstein et al.,
    2023).
    """
    return -logsigmoid(chosen - rejected - margin) + centering * (chosen + rejected).square()


def _log_complement(logprob: torch.Tensor) -> torch.Tensor:
    """log(1 − exp(l)) of log-probabilities l, without cancellation near 0 nor far from it (Mächler, 2012, eq. 7).

    A probability that rounding cannot tell from 1 counts as the largest below: of a certain answer the odds would be infinite.
    """
    logprob = logprob.clamp(max=-torch.finfo(logprob.dtype).eps)
    near, far = torch.log(-torch.expm1(logprob)), torch.log1p(-logprob.exp())
    return torch.where(logprob > -math.log(2), near, far)


def _margin(logprobs: PairLogprobs) -> torch.Tensor:
    chosen, rejected = logprobs.log_ratios()
    return chosen - rejected


def _ipo(logprobs: PairLogprobs, options: LossOptions) -> torch.Tensor:
    chosen, rejected = logprobs.log_ratios()
    return ipo_loss(chosen / logprobs.chosen_tokens - rejected / logprobs.rejected_tokens, options.beta)


LOSSES: Mapping[str, Callable[[PairLogprobs, LossOptions], torch.Tensor]] = {
    "sigmoid": lambda pairs, options: sigmoid_loss(_margin(pairs), options.beta, options.label_smoothing),
    "robust": lambda pairs, options: robust_loss(_margin(pairs), options.beta, options.label_smoothing),
    "ipo": _ipo,
    "hinge": lambda pairs, options: hinge_loss(_margin(pairs), options.beta),
    "simpo": lambda pairs, options: simpo_loss(*pairs.averages(), options.beta, options.gamma, options.label_smoothing),
    "orpo": lambda pairs, options: orpo_loss(*pairs.averages(), options.beta),
}
"""The loss of each `loss_type`, as a function of log-probabilities and options."""

REFERENCE_FREE = frozenset(["simpo", "orpo"])


def preference_loss(
    logprobs: PairLogprobs, types: Sequence[str], weights: Sequence[float], options: LossOptions
) -> torch.Tensor:
    """The weighted sum of losses, (B,). Raises ValueError for one that needs a reference where there is none."""
    terms = [weight * LOSSES[kind](logprobs, options) for kind, weight in zip(types, weights, strict=True)]
    return torch.stack(terms).sum(0)
