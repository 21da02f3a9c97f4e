"""Advantages, whitening and rewards against arithmetic done by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from harness.engine.advantages import (  # noqa: E402
    explained_variance,
    generalized_advantages,
    masked_mean,
    masked_whiten,
    token_rewards,
)

pytestmark = pytest.mark.torch


def test_advantages_of_a_hand_worked_answer():
    # gamma = 1, lambda = 0.5, rewards 0, 0, 1 and values 0.5, 0.25, 0.5:
    # deltas: 0.25 - 0.5 = -0.25;  0.5 - 0.25 = 0.25;  1 - 0.5 = 0.5
    # A3 = 0.5;  A2 = 0.25 + 0.5 * 0.5 = 0.5;  A1 = -0.25 + 0.5 * 0.5 = 0.  Targets: 0 + 0.5, 0.5 + 0.25, 0.5 + 0.5
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.25, 0.5]])
    advantages, returns = generalized_advantages(rewards, values, torch.ones(1, 3, dtype=torch.bool), 1.0, 0.5)
    assert advantages.tolist() == [[0.0, 0.5, 0.5]]
    assert returns.tolist() == [[0.5, 0.75, 1.0]]


def slow_advantages(rewards, values, gamma, lam):
    """A_t = sum over l of (gamma lambda)^l delta_{t+l}, the definition."""
    following = [*values[1:], 0.0]
    deltas = [reward + gamma * after - value for reward, value, after in zip(rewards, values, following, strict=True)]
    return [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, len(deltas))) for t in range(len(deltas))]


def test_advantages_match_their_definition_and_ignore_padding():
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(4, 9, generator=generator), torch.randn(4, 9, generator=generator)
    lengths = [9, 1, 4, 6]
    mask = torch.arange(9) < torch.tensor(lengths).unsqueeze(1)
    advantages, returns = generalized_advantages(rewards, values, mask, 0.9, 0.8)
    for row, length in enumerate(lengths):
        expected = slow_advantages(rewards[row, :length].tolist(), values[row, :length].tolist(), 0.9, 0.8)
        assert advantages[row, :length].tolist() == pytest.approx(expected, abs=1e-5)
        assert not advantages[row, length:].any()
        assert not returns[row, length:].any()


def test_whitening_uses_masked_positions_only():
    values = torch.tensor([[1.0, 3.0, 99.0], [5.0, 7.0, 99.0]])
    mask = torch.tensor([[True, True, False], [True, True, False]])
    # mean 4, population variance (9 + 1 + 1 + 9) / 4 = 5
    root = 5**0.5
    assert masked_whiten(values, mask).flatten().tolist() == pytest.approx(
        [-3 / root, -1 / root, 0, 1 / root, 3 / root, 0], abs=1e-6
    )
    assert masked_whiten(values, mask, shift_mean=False).flatten().tolist() == pytest.approx(
        [4 - 3 / root, 4 - 1 / root, 0, 4 + 1 / root, 4 + 3 / root, 0], abs=1e-6
    )
    assert masked_mean(values, mask).item() == 4.0


def test_whitening_equal_values_gives_zeros():
    assert masked_whiten(torch.full((2, 2), 3.0), torch.ones(2, 2, dtype=torch.bool)).tolist() == [[0, 0], [0, 0]]


def test_the_score_lands_on_the_last_token_of_each_answer():
    logprobs = torch.tensor([[-1.0, -2.0, -9.0], [-1.0, -1.0, -1.0]])
    reference = torch.tensor([[-2.0, -1.0, -1.0], [-1.0, -1.0, -3.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    rewards = token_rewards(torch.tensor([10.0, 20.0]), logprobs, reference, mask, kl_coef=0.5)
    # -0.5 * (1, -1, masked) and 10 on the second; -0.5 * (0, 0, 2) and 20 on the third
    assert rewards.tolist() == [[-0.5, 10.5, 0.0], [0.0, 0.0, 19.0]]


def test_explained_variance_of_perfect_and_constant_critics():
    returns, mask = torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3, dtype=torch.bool)
    assert explained_variance(returns, returns, mask) == 1.0
    assert explained_variance(torch.full((1, 3), 2.0), returns, mask) == pytest.approx(0.0)
    assert explained_variance(returns, torch.ones(1, 3), mask) == 0.0
