"""Losses of pairs against arithmetic done by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
from harness.engine.preference_losses import (  # noqa: E402
    LOSSES,
    REFERENCE_FREE,
    LossOptions,
    PairLogprobs,
    bradley_terry_loss,
    hinge_loss,
    ipo_loss,
    orpo_loss,
    preference_loss,
    robust_loss,
    sigmoid_loss,
    simpo_loss,
)

pytestmark = pytest.mark.torch

LOG_3 = math.log(3.0)
"""σ(log 3) = 3/4 and σ(−log 3) = 1/4."""


def t(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_sigmoid_is_the_negative_log_of_a_probability():
    # beta m = 0.5 · 2 log 3 = log 3: the pair is right with probability 3/4.
    assert sigmoid_loss(t(2 * LOG_3, 0.0, -2 * LOG_3), beta=0.5).tolist() == pytest.approx(
        [-math.log(3 / 4), math.log(2), -math.log(1 / 4)]
    )


def test_smoothing_mixes_both_labels():
    expected = -0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4)
    assert sigmoid_loss(t(LOG_3), beta=1.0, label_smoothing=0.1).item() == pytest.approx(expected)


def test_robust_takes_the_flipped_share_out_again():
    expected = (-0.9 * math.log(3 / 4) + 0.1 * math.log(1 / 4)) / 0.8
    assert robust_loss(t(LOG_3), beta=1.0, label_smoothing=0.1).item() == pytest.approx(expected)


def test_robust_is_unbiased_under_flipped_labels():
    # With a share of 0.3 flipped, its expectation is the loss under the true label.
    clean = sigmoid_loss(t(0.7), 1.0)
    noisy = 0.7 * robust_loss(t(0.7), 1.0, 0.3) + 0.3 * robust_loss(t(-0.7), 1.0, 0.3)
    assert noisy.item() == pytest.approx(clean.item())


def test_ipo_is_a_squared_distance_from_half_the_inverse_of_beta():
    # 1 / (2 · 0.25) = 2.
    assert ipo_loss(t(2.0, 5.0, -1.0), beta=0.25).tolist() == [0.0, 9.0, 9.0]


def test_hinge_is_zero_beyond_the_margin():
    assert hinge_loss(t(4.0, 1.0, -2.0), beta=0.5).tolist() == [0.0, 0.5, 2.0]


def test_simpo_asks_for_a_margin_of_averages():
    # 2 · (−1 + 1.5) − (1 − log 3) = log 3.
    loss = simpo_loss(t(-1.0), t(-1.5), beta=2.0, gamma=1.0 - LOG_3)
    assert loss.item() == pytest.approx(-math.log(3 / 4))


def test_orpo_adds_likelihood_and_odds():
    # p_w = 3/4 has odds 3, p_l = 1/2 has odds 1: the odds ratio is 3.
    loss = orpo_loss(t(math.log(3 / 4)), t(math.log(1 / 2)), beta=0.2)
    assert loss.item() == pytest.approx(-math.log(3 / 4) - 0.2 * math.log(3 / 4))


@pytest.mark.parametrize("average", [1e-7, 0.0, -1e-9, -3e-8])
def test_orpo_takes_a_certain_answer_for_almost_certain(average):
    """In fp32 the average of a learned answer is 0, or beyond by rounding. It counts as −2⁻²³, which has odds of 2²³."""
    for chosen, rejected, expected in (
        (average, -math.log(2), -average + 0.1 * math.log1p(2**-23)),
        (-math.log(2), average, math.log(2) + 0.1 * math.log1p(2**23)),
    ):
        averages = [torch.tensor(each, requires_grad=True) for each in (chosen, rejected)]
        loss = orpo_loss(*averages, beta=0.1)
        loss.backward()
        assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-8)
        assert all(each.grad.isfinite() for each in averages)
        assert averages[0].grad < 0 < averages[1].grad, "up with the chosen answer, down with the rejected one"


@pytest.mark.parametrize("average", [-20.0, -3.0, -0.7, -0.69, -1e-2, -1e-4, -1e-6])
def test_orpo_in_fp32_is_that_in_float64(average):
    """Value and gradient, of an answer that is unlikely or all but certain; 1 − exp(l) alone would lose a per cent at −1e-6."""

    def of(dtype, place):
        averages = [torch.tensor(average if each == place else -1.0).to(dtype).requires_grad_() for each in (0, 1)]
        loss = orpo_loss(*averages, beta=0.5)
        loss.backward()
        return [loss.item(), *(each.grad.item() for each in averages)]

    for place in (0, 1):
        assert of(torch.float32, place) == pytest.approx(of(torch.float64, place), rel=1e-5)


def test_bradley_terry_with_margin_and_centering():
    chosen, rejected = t(2.0, 1.0), t(2.0 - LOG_3, 1.0)
    assert bradley_terry_loss(chosen, rejected).tolist() == pytest.approx([-math.log(3 / 4), math.log(2)])
    assert bradley_terry_loss(chosen, rejected, t(LOG_3, 0.0)).tolist() == pytest.approx([math.log(2), math.log(2)])
    # (1 + 1)² = 4, a tenth of it.
    assert bradley_terry_loss(t(1.0), t(1.0), centering=0.1).item() == pytest.approx(math.log(2) + 0.4)


PAIRS = PairLogprobs(
    chosen=t(-4.0, -6.0),
    rejected=t(-9.0, -2.0),
    chosen_tokens=t(2, 3),
    rejected_tokens=t(3, 1),
    ref_chosen=t(-5.0, -6.0),
    ref_rejected=t(-6.0, -4.0),
)
"""Log-ratios 1 and 0 of the chosen answers, −3 and 2 of the rejected ones: margins 4 and −2."""


def test_each_loss_type_reads_its_own_margin():
    options = LossOptions(beta=0.5, label_smoothing=0.0, gamma=0.0)
    by_name = {name: loss(PAIRS, options).tolist() for name, loss in LOSSES.items()}
    assert by_name["hinge"] == [0.0, 2.0]
    assert by_name["sigmoid"] == pytest.approx([math.log1p(math.exp(-2.0)), math.log1p(math.exp(1.0))])
    assert by_name["robust"] == pytest.approx(by_name["sigmoid"])
    # Averaged log-ratios: 1/2 + 3/3 and 0 − 2/1, from a target of 1 / (2 · 0.5) = 1.
    assert by_name["ipo"] == pytest.approx([0.25, 9.0])
    # Averages −2 and −3, then −2 and −2: half the difference is 1/2 and 0.
    assert by_name["simpo"] == pytest.approx([math.log1p(math.exp(-0.5)), math.log(2)])
    odds = [math.exp(-2) / (1 - math.exp(-2)), math.exp(-3) / (1 - math.exp(-3))]
    assert by_name["orpo"] == pytest.approx([2 + 0.5 * math.log1p(odds[1] / odds[0]), 2 + 0.5 * math.log(2)])


def test_a_weighted_sum_of_losses():
    options = LossOptions(beta=0.5)
    total = preference_loss(PAIRS, ["hinge", "ipo"], [2.0, 0.5], options)
    assert total.tolist() == pytest.approx([0.125, 8.5])


def test_what_needs_no_reference_is_said_truly():
    free = PairLogprobs(PAIRS.chosen, PAIRS.rejected, PAIRS.chosen_tokens, PAIRS.rejected_tokens)
    for name, loss in LOSSES.items():
        if name in REFERENCE_FREE:
            assert loss(free, LossOptions()).shape == (2,)
        else:
            with pytest.raises(ValueError, match="no reference log-probabilities"):
                loss(free, LossOptions())


def test_no_loss_overflows_far_from_home():
    far = PairLogprobs(t(-900.0), t(-1e-9), t(3), t(3), t(-1.0), t(-900.0))
    for loss in LOSSES.values():
        assert torch.isfinite(loss(far, LossOptions())).all()
