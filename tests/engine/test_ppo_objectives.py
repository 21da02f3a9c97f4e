"""Clipped objectives, KL estimates and the KL controller against arithmetic done by hand."""

from __future__ import annotations

from math import e, log

import pytest

torch = pytest.importorskip("torch")
from harness.engine.objectives import KLController, entropies, k1, k3, policy_terms, value_terms  # noqa: E402

pytestmark = pytest.mark.torch


def test_policy_terms_clip_on_the_pessimistic_side_only():
    ratios = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    loss, ratio, clipped = policy_terms(ratios.log(), torch.zeros(5), advantages, cliprange=0.2)
    # max(-A r, -A clip(r)): max(-1.5, -1.2), max(1.5, 1.2), max(-0.5, -0.8), max(0.5, 0.8), -2.2
    assert loss.tolist() == pytest.approx([-1.2, 1.5, -0.5, 0.8, -2.2])
    assert ratio.tolist() == pytest.approx(ratios.tolist())
    assert clipped.tolist() == [True, False, False, True, False]


def test_the_first_gradient_is_that_of_the_policy_gradient():
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    advantages = torch.tensor([3.0, -5.0])
    policy_terms(logprobs, logprobs.detach(), advantages, 0.2)[0].sum().backward()
    assert logprobs.grad.tolist() == [-3.0, 5.0]


def test_value_terms_take_the_larger_error_and_a_half():
    values, old, returns = torch.tensor([1.0, 0.1]), torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0])
    # clipped to 0.2: half of max(0, 0.64); within the range: half of 0.81
    loss, clipped = value_terms(values, old, returns, 0.2)
    assert loss.tolist() == pytest.approx([0.32, 0.405])
    assert clipped.tolist() == [True, False]


def test_values_are_clipped_around_the_old_ones_and_on_the_pessimistic_side_only():
    # Old value 1, return 0. Down to 0.5: clipped to 0.8, whose error 0.64 exceeds 0.25. Up to 1.5: clipped to 1.2, whose
    # error 1.44 does not exceed 2.25.
    old, returns = torch.ones(2), torch.zeros(2)
    loss, clipped = value_terms(torch.tensor([0.5, 1.5]), old, returns, 0.2)
    assert loss.tolist() == pytest.approx([0.32, 1.125])
    assert clipped.tolist() == [True, False]


def test_kl_estimates():
    logprobs, reference = torch.tensor([0.0, -1.0]), torch.tensor([-1.0, -1.0])
    assert k1(logprobs, reference).tolist() == [1.0, 0.0]
    # exp(-1) - 1 + 1 = 1/e
    assert k3(logprobs, reference).tolist() == pytest.approx([1 / e, 0.0])


def test_entropy_of_a_fair_and_a_loaded_coin():
    logits = torch.tensor([[0.0, 0.0], [log(3), 0.0]])
    assert entropies(logits).tolist() == pytest.approx([log(2), -(0.75 * log(0.75) + 0.25 * log(0.25))])


@pytest.mark.parametrize(
    ("kl", "factor"),
    [
        (6.0, 1 + 0.2 * 64 / 1000),  # twice the target: clipped at 0.2
        (3.3, 1 + 0.1 * 64 / 1000),
        (3.0, 1.0),
        (0.0, 1 - 0.2 * 64 / 1000),
    ],
)
def test_an_adaptive_coefficient_follows_the_kl(kl: float, factor: float):
    controller = KLController(0.05, target=3.0, horizon=1000)
    controller.update(kl, answers=64)
    assert controller.coefficient == pytest.approx(0.05 * factor)


def test_a_coefficient_without_target_is_fixed():
    controller = KLController(0.05)
    controller.update(100.0, answers=64)
    assert controller.coefficient == 0.05
