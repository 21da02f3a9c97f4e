"""What a policy's own answers look like to PPO: the rollout, the scale of its scores, and how alike its answers are."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .likelihood import TokenSequence


@dataclass(frozen=True)
class Rollout:
    """B answers of at most R tokens, and what was known of them when they were sampled.

    scores (B,) as they were given, and their mean where scored (B,) bool is false; stopped (B,) bool; mask (B, R) bool, padding
    on the right; logprobs, ref_logprobs and values (B, R), 0 where the mask is false. The value at an answer's token is that
    of the state before it, as the critic gives it.
    """

    sequences: Sequence[TokenSequence]
    scores: torch.Tensor
    scored: torch.Tensor
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


@dataclass(frozen=True)
class RewardScaling:
    """Mean and deviation of the scores of the reference policy's answers, and how many answers there were.

    A score s enters the reward as (s − mean) / deviation, so that β means the same whatever the scale of the scores
    (Huang et al., 2024, arXiv 2403.17031).
    """

    mean: float
    deviation: float
    answers: int

    @classmethod
    def of(cls, scores: torch.Tensor) -> RewardScaling:
        """Of scores (B,). Scores that are all alike are not scaled: their deviation is taken as 1."""
        deviation = float(scores.std(correction=0))
        return cls(float(scores.mean()), deviation if deviation >= 1e-6 else 1.0, len(scores))

    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B,) in deviations from the mean."""
        return (scores - self.mean) / self.deviation


def answer_mask(lengths: Sequence[int], device: str | torch.device) -> torch.Tensor:
    """(B, R) bool: true at each answer's tokens, R the longest answer's."""
    return torch.arange(max(lengths), device=device) < torch.tensor(lengths, device=device).unsqueeze(1)


def distinct_bigrams(answers: Sequence[Sequence[int]]) -> float:
    """Mean over answers of the share of distinct ones among an answer's token bigrams, in (0, 1].

    distinct-2 of Li et al. (2016), arXiv:1510.03055, within one answer, so that it does not depend on how many answers there
    are. An answer of fewer than two tokens has no bigram and is left out; without any bigram the mean is 1.
    """
    shares = []
    for ids in answers:
        bigrams = list(itertools.pairwise(ids))
        if bigrams:
            shares.append(len(set(bigrams)) / len(bigrams))
    return sum(shares) / len(shares) if shares else 1.0


def repeated_answers(answers: Sequence[Sequence[int]]) -> float:
    """Share of the answers that equal another answer, token by token, in [0, 1]. 0 for no answers."""
    counts = Counter(tuple(ids) for ids in answers)
    return sum(count for count in counts.values() if count > 1) / len(answers) if answers else 0.0
