"""What PPO computes from an answer: each number against an unbatched, unpadded pass or arithmetic done by hand."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import harness

torch = pytest.importorskip("torch")
from harness_plugins.aligners.ppo import PPOConfig  # noqa: E402
from ppo_loop import make_inputs, training  # noqa: E402

from harness.engine.likelihood import TokenSequence, collate  # noqa: E402
from harness.engine.rollouts import (  # noqa: E402
    RewardScaling,
    Rollout,
    answer_mask,
    distinct_bigrams,
    repeated_answers,
)

pytestmark = pytest.mark.torch

WHOLE = {"num_ppo_epochs": 1, "num_mini_batches": 1}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("ppo"))


def scaled_up(loop: Any) -> Any:
    """The loop with policies whose distributions are far from uniform, so that a wrong temperature or mask shows."""
    with torch.no_grad():
        for model in (loop.policy, loop.reference):
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(4)
    return loop


def changed(inputs: dict[str, Any], slot: str, folder: Path, file: str, **values: Any) -> dict[str, Any]:
    """The inputs with other settings in a model's configuration."""
    shutil.copytree(inputs[slot].path, folder)
    path = folder / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))
    return inputs | {slot: replace(inputs[slot], path=folder)}


def alone(model: Any, sequence: TokenSequence) -> Any:
    """What a model puts out along an answer in a pass of its own, (R, ...): one position before each token."""
    with torch.no_grad():
        output = model(input_ids=torch.tensor([[*sequence.prompt_ids, *sequence.answer_ids]]), use_cache=False)[0][0]
    start = len(sequence.prompt_ids) - 1
    return output[start : start + len(sequence.answer_ids)]


@pytest.mark.parametrize("critic", ["separate", "shared"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_those_of_a_plain_pass_at_the_sampling_temperature(inputs, tmp_path, critic, temperature):
    loop = scaled_up(training(inputs, tmp_path, critic=critic, temperature=temperature))
    with torch.no_grad():  # a reference that differs
        next(loop.reference.parameters()).mul_(1.1)
    rollout, _ = loop.sample(1)
    for row, sequence in enumerate(rollout.sequences):
        ids = torch.tensor(sequence.answer_ids).unsqueeze(1)
        for model, found in ((loop.policy, rollout.logprobs), (loop.reference, rollout.ref_logprobs)):
            expected = (alone(model, sequence) / temperature).log_softmax(-1).gather(1, ids).squeeze(1)
            assert torch.allclose(found[row, : len(ids)], expected, atol=1e-5)


def test_scores_and_values_are_those_of_a_plain_pass_over_prompt_and_cut_answer(inputs, tmp_path):
    loop = scaled_up(training(inputs, tmp_path))
    with torch.no_grad():
        loop.critic.score.weight.mul_(2)  # a critic that differs from the reward model
    rollout, _ = loop.sample(1)
    assert rollout.scores.std() > 0.01
    for row, sequence in enumerate(rollout.sequences):
        whole = torch.tensor([[*sequence.prompt_ids, *sequence.answer_ids]])
        with torch.no_grad():
            score = loop.reward.model.score(loop.reward.model.model(whole).last_hidden_state)[0, -1, 0]
            values = loop.critic.score(loop.critic.model(whole).last_hidden_state)[0, :, 0]
        start = len(sequence.prompt_ids) - 1
        assert float(rollout.scores[row]) == pytest.approx(float(score), abs=1e-5)
        expected = values[start : start + len(sequence.answer_ids)]
        assert torch.allclose(rollout.values[row, : len(expected)], expected, atol=1e-5)


def test_an_answer_does_not_depend_on_the_prompts_beside_it(inputs, tmp_path):
    # Seven prompts of several lengths, all at once and one at a time: what is sampled and measured is the same.
    loop = scaled_up(training(inputs, tmp_path, rollout_batch_size=7))
    together, _ = loop.sample(1)
    scores, values, logprobs = [], [], []
    assert len({len(sequence.prompt_ids) for sequence in together.sequences}) > 2
    for sequence in together.sequences:
        batch = collate([sequence], loop.pad_id, "cpu")
        with torch.no_grad():
            logits, value = loop._forward(batch)
        values.append(value)
        logprobs.append(logits.log_softmax(-1).gather(1, batch.answer_ids.unsqueeze(1)).squeeze(1))
        scores.append(loop.reward.score([], [sequence]))
    assert torch.allclose(torch.cat(scores), together.scores, atol=1e-5)
    assert torch.allclose(torch.cat(values), together.values[together.mask], atol=1e-5)
    assert torch.allclose(torch.cat(logprobs), together.logprobs[together.mask], atol=1e-5)


def test_answers_end_with_their_first_stop_token(inputs, tmp_path):
    loop = scaled_up(training(inputs, tmp_path, response_length=40, rollout_batch_size=14))
    loop.stop = frozenset(range(0, 300, 3))
    rollout, _ = loop.sample(1)
    assert rollout.stopped.any()
    assert len(set(map(len, (sequence.answer_ids for sequence in rollout.sequences)))) > 2
    for sequence, stopped in zip(rollout.sequences, rollout.stopped, strict=True):
        assert not loop.stop & set(sequence.answer_ids[:-1])
        assert bool(stopped) == (sequence.answer_ids[-1] in loop.stop)


def test_sampling_settings_of_the_model_are_not_used(inputs, tmp_path):
    plain, _ = training(inputs, tmp_path / "plain").sample(1)
    greedy = changed(
        inputs, "init", tmp_path / "model", "generation_config.json", do_sample=True, top_k=1, top_p=0.1, temperature=0.1
    )
    other, _ = training(greedy, tmp_path / "other").sample(1)
    assert [each.answer_ids for each in other.sequences] == [each.answer_ids for each in plain.sequences]


def test_dropout_is_off_in_all_models(inputs, tmp_path):
    for slot in ("init", "reward"):
        inputs = changed(inputs, slot, tmp_path / slot, "config.json", attention_dropout=0.5)
    loop = training(inputs, tmp_path)
    ids = torch.tensor([[3, 20, 30, 40, 50, 60]])
    for model in (loop.policy, loop.reference, loop.reward.model, loop.critic):
        assert not model.training
        model.train()
        first, second = (model.base_model(input_ids=ids).last_hidden_state for _ in range(2))
        assert torch.equal(first, second)


@pytest.mark.parametrize("critic", ["separate", "shared"])
@pytest.mark.parametrize(
    ("dtype", "precision", "tolerance"),
    [(torch.float64, "fp32", 1e-6), (torch.float32, "fp32", 1e-4), (torch.float32, "bf16", 2e-2)],
)
def test_the_first_ratio_is_one_and_the_first_kl_zero(inputs, tmp_path, critic, dtype, precision, tolerance):
    loop = training(inputs, tmp_path, precision, critic=critic, temperature=0.7, **WHOLE)
    for model in (loop.policy, loop.reference, loop.critic):
        model.to(dtype)
    scaled_up(loop)
    rollout, _ = loop.sample(1)
    assert rollout.logprobs.dtype in {torch.float32, dtype}
    targets, measured = loop.estimate(rollout)
    first = loop.update(1, rollout, targets)
    assert first["ratio"] == pytest.approx(1, abs=tolerance)
    assert first["approx_kl"] == pytest.approx(0, abs=tolerance)
    assert first["clip_fraction"] == first["value_clip_fraction"] == 0
    if precision == "fp32":
        assert measured["kl"] == pytest.approx(0, abs=1e-4)  # a sum over 8 tokens
    second = loop.update(1, rollout, targets)
    assert abs(second["ratio"] - 1) > 10 * tolerance or precision == "bf16"


def test_bf16_takes_its_log_probabilities_from_the_pass_that_the_update_makes(inputs, tmp_path):
    # The sampler's, rounded along another path, would be off.
    loop = scaled_up(training(inputs, tmp_path, "bf16", **WHOLE, per_device_train_batch_size=8))
    rollout, _ = loop.sample(1)
    passed = loop.update(1, rollout, loop.estimate(rollout)[0])
    loop = scaled_up(training(inputs, tmp_path, "bf16", **WHOLE, per_device_train_batch_size=8))
    loop.sampler_knows = True
    sampled, _ = loop.sample(1)
    assert [each.answer_ids for each in sampled.sequences] == [each.answer_ids for each in rollout.sequences]
    drift = loop.update(1, sampled, loop.estimate(sampled)[0])
    assert passed["approx_kl"] < 1e-9
    assert drift["approx_kl"] > 1e-8


# Two answers, of three tokens and of one, with everything known of them in round numbers.
LOGPROBS = torch.tensor([[-1.0, -2.0, -1.0], [-3.0, 0.0, 0.0]])
REF_LOGPROBS = torch.tensor([[-2.0, -2.0, -3.0], [-1.0, 0.0, 0.0]])
VALUES = torch.tensor([[4.0, 3.5, 4.0], [5.0, 0.0, 0.0]])  # of the critic, scaled as scores are: 0.5, 0.25, 0.5, 1
SCORES = torch.tensor([5.0, 1.0])  # mean 3, deviation 2: scaled to 1 and -1


def by_hand(stopped=(True, False)) -> Rollout:
    sequences = [TokenSequence([3], [7, 8, 1]), TokenSequence([3, 4], [9])]
    return Rollout(
        sequences=sequences,
        scores=SCORES,
        scored=torch.tensor([True, True]),
        stopped=torch.tensor(stopped),
        mask=answer_mask([3, 1], "cpu"),
        logprobs=LOGPROBS,
        ref_logprobs=REF_LOGPROBS,
        values=VALUES,
    )


def test_rewards_advantages_and_targets_of_two_hand_worked_answers(inputs, tmp_path):
    loop = training(inputs, tmp_path, kl_coef=0.5, lam=0.5, gamma=1.0, missing_eos_penalty=0.25)
    targets, measured = loop.estimate(by_hand())
    # Penalised log-ratios: -0.5 * (1, 0, 2) and -0.5 * -2; scores 1 and -1 - 0.25 on the last token:
    # rewards (-0.5, 0, 0) and (-0.25)
    assert measured["reward"] == pytest.approx((-0.5 - 0.25) / 2)
    # deltas: 0 - 0.5 = -0.5;  0 + 0.5 - 0.25 = 0.25;  -0.5 + 0.25 - 0.5 = -0.75;  -0.25 - 1 = -1.25
    # advantages: A3 = -0.5;  A2 = 0.25 + 0.5 * -0.5 = 0;  A1 = -0.75 + 0.5 * 0 = -0.75;  -1.25
    raw = torch.tensor([[-0.75, 0.0, -0.5], [-1.25, 0.0, 0.0]])
    assert torch.allclose(targets.returns, torch.tensor([[-0.25, 0.25, 0.0], [-0.25, 0.0, 0.0]]))
    # whitened over all four tokens: mean -0.625, variance (0.125² + 0.625² + 0.125² + 0.625²) / 4 = 0.203125
    expected = (raw + 0.625) / 0.203125**0.5
    mask = by_hand().mask
    assert torch.allclose(targets.advantages[mask], expected[mask], atol=1e-5)
    assert not targets.advantages[~mask].any()
    # kl per answer: (1 + 0 + 2 - 2) / 2; entropy and fluency per token: (1 + 2 + 1 + 3) / 4, (-2 - 2 - 3 - 1) / 4
    assert measured["kl"] == pytest.approx(0.5)
    assert (measured["entropy"], measured["ref_logprob"]) == (pytest.approx(1.75), pytest.approx(-2.0))
    assert (measured["score"], measured["missing_eos"], measured["length"]) == (3.0, 0.5, 2.0)
    # returns (-0.25, 0.25, 0, -0.25): mean -0.0625, variance 0.04296875; errors (-0.75, 0, -0.5, -1.25): variance 0.203125
    assert measured["explained_variance"] == pytest.approx(1 - 0.203125 / 0.04296875)


def test_an_adaptive_coefficient_follows_the_kl_of_the_rollout(inputs, tmp_path):
    # KL 0.5 nats per answer is a tenth over the target: beta *= 1 + 0.1 * 2 / 100
    loop = training(inputs, tmp_path, kl_coef=0.5, target_kl=0.5 / 1.1, horizon=100)
    measured = loop.estimate(by_hand())[1]
    assert measured["beta"] == 0.5
    assert loop.kl.coefficient == pytest.approx(0.5 * 1.002)


def test_rewards_are_not_whitened_unless_asked_for(inputs, tmp_path):
    assert PPOConfig().whiten_rewards is False
    options = {"kl_coef": 0.5, "lam": 1.0, "missing_eos_penalty": 0.25}
    plain, _ = training(inputs, tmp_path, **options).estimate(by_hand())
    white, _ = training(inputs, tmp_path, **options, whiten_rewards=True).estimate(by_hand())
    # With lambda 1 the target is the sum of rewards to come. Rewards (-0.5, 0, 0), (-0.25): mean -0.1875,
    # variance (0.3125² + 2 * 0.1875² + 0.0625²) / 4 = 0.04296875, and the mean stays.
    assert plain.returns[0, 0] == pytest.approx(-0.5)
    assert white.returns[0, 0] == pytest.approx((-0.3125 + 2 * 0.1875) / 0.04296875**0.5 - 3 * 0.1875)


def test_scores_are_scaled_by_the_first_rollout_and_stay_so(inputs, tmp_path):
    loop = training(inputs, tmp_path)
    loop.estimate(by_hand())
    assert loop.scaling == RewardScaling(mean=3.0, deviation=2.0, answers=2)
    loop.estimate(replace(by_hand(), scores=torch.tensor([30.0, 10.0])))
    assert loop.scaling(torch.tensor([30.0])).tolist() == [13.5]


def test_a_critic_that_starts_as_the_reward_model_is_scaled_as_scores_are(inputs, tmp_path):
    """Both then mean the same thing from the first step on (Huang et al., 2024): it learns rewards, not their unit."""
    loop = scaled_up(training(inputs, tmp_path, **WHOLE))
    rollout, _ = loop.sample(1)
    targets, _ = loop.estimate(rollout)
    assert loop.scaling.deviation < 0.9 or abs(loop.scaling.mean) > 0.1  # a scale that can be told from none
    values = (rollout.values - loop.scaling.mean) / loop.scaling.deviation
    expected = 0.5 * (values - targets.returns)[rollout.mask].square().mean()
    assert loop.update(1, rollout, targets)["value_loss"] == pytest.approx(float(expected), rel=1e-4)


def test_minibatches_are_drawn_anew_each_epoch_and_cover_the_rollout(inputs, tmp_path):
    loop = training(inputs, tmp_path, num_ppo_epochs=3, num_mini_batches=4)
    seen: list[list[int]] = []
    original = loop._minibatch
    loop._minibatch = lambda *arguments: seen.append(arguments[-1].tolist()) or original(*arguments)
    rollout, _ = loop.sample(1)
    loop.update(1, rollout, loop.estimate(rollout)[0])
    epochs = [[row for part in seen[start : start + 4] for row in part] for start in (0, 4, 8)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(8))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_two_iterations_over_the_same_prompts_draw_other_answers_and_other_minibatches(inputs, tmp_path):
    loop = training(inputs, tmp_path, rollout_batch_size=14, num_ppo_epochs=1)
    seen: list[list[int]] = []
    loop._minibatch = lambda *arguments: seen.append(arguments[-1].tolist())
    rollouts = [loop.sample(step)[0] for step in (1, 2)]
    answers = [{tuple(each.prompt_ids): each.answer_ids for each in rollout.sequences} for rollout in rollouts]
    assert answers[0].keys() == answers[1].keys()
    assert all(answers[0][prompt] != answers[1][prompt] for prompt in answers[0])
    for step, rollout in enumerate(rollouts, 1):
        loop.update(step, rollout, loop.estimate(rollout)[0])
    assert seen[:2] != seen[2:]


def test_vf_coef_weighs_the_critics_gradient_and_nothing_of_the_policys(inputs, tmp_path):
    norms = []
    for vf_coef in (0.1, 0.3):
        loop = training(inputs, tmp_path, vf_coef=vf_coef, max_grad_norm=1e9)
        rollout, _ = loop.sample(1)
        measured = loop._minibatch(1, rollout, loop.estimate(rollout)[0], torch.arange(8))
        norms.append((measured["grad_norm"], measured["critic_grad_norm"]))
    assert norms[1][0] == pytest.approx(norms[0][0], rel=1e-4)
    assert norms[1][1] == pytest.approx(3 * norms[0][1], rel=1e-4)


def test_ratios_and_values_are_clipped_each_at_its_own_range(inputs, tmp_path):
    loop = training(inputs, tmp_path, cliprange=0.5, cliprange_value=0.01, **WHOLE)
    rollout, _ = loop.sample(1)
    targets, _ = loop.estimate(rollout)
    rollout.logprobs.sub_(0.3)  # ratios of 1.35: beyond 0.01, not beyond 0.5
    rollout.values.sub_(0.3 * loop.scaling.deviation)  # values that moved by 0.3, towards half of their targets
    measured = loop._minibatch(1, rollout, targets, torch.arange(8))
    assert measured["clip_fraction"] == 0
    assert measured["value_clip_fraction"] > 0


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_losses_are_means_over_all_tokens_however_they_are_cut(inputs, tmp_path, critic):
    measured = []
    for size in (8, 3, 1):
        loop = scaled_up(training(inputs, tmp_path, critic=critic, per_device_train_batch_size=size))
        rollout, _ = loop.sample(1)
        rollout.logprobs.sub_(0.1)
        measured.append(loop._minibatch(1, rollout, loop.estimate(rollout)[0], torch.arange(8)))
    for other in measured[1:]:
        assert other == pytest.approx(measured[0], abs=1e-5)


def test_gradient_norms_are_measured_before_and_after_clipping(inputs, tmp_path):
    loop = training(inputs, tmp_path, max_grad_norm=1e-3)
    rollout, _ = loop.sample(1)
    measured = loop._minibatch(1, rollout, loop.estimate(rollout)[0], torch.arange(8))
    for name, model in (("grad_norm", loop.policy), ("critic_grad_norm", loop.critic)):
        norm = sum(float(parameter.grad.square().sum()) for parameter in model.parameters()) ** 0.5
        assert norm == pytest.approx(1e-3, rel=1e-2)
        assert measured[f"{name}_clipped"] == pytest.approx(norm, rel=1e-4)
        assert measured[name] > 1e-2


def test_adam_divides_by_no_less_than_1e_5_unless_told(inputs, tmp_path):
    def epsilons(**options):
        return {group["eps"] for each in training(inputs, tmp_path, **options).optimizers for group in each.param_groups}

    assert epsilons() == {1e-5}
    assert epsilons(args={"adam_epsilon": 1e-8}) == {1e-8}


def test_an_entropy_bonus_raises_entropy(inputs, tmp_path):
    loop = scaled_up(training(inputs, tmp_path, entropy_coef=1.0, per_device_train_batch_size=8, **WHOLE))
    rollout, _ = loop.sample(1)
    batch = collate(rollout.sequences, loop.pad_id, "cpu")

    def entropy() -> float:
        with torch.no_grad():
            logprobs = loop._forward(batch)[0].log_softmax(-1)
        return float(-(logprobs.exp() * logprobs).sum(-1).mean())

    before = entropy()
    targets, _ = loop.estimate(rollout)
    still = replace(targets, advantages=torch.zeros_like(targets.advantages))
    for _ in range(3):
        loop.update(1, rollout, still)
    assert entropy() > before + 0.05


def test_infinite_gradients_are_a_stage_error(inputs, tmp_path):
    loop = training(inputs, tmp_path, **WHOLE)
    rollout, _ = loop.sample(1)
    targets, _ = loop.estimate(rollout)
    loop.policy.get_input_embeddings().weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(harness.StageError, match=r"grad_norm is (nan|inf) at step 1"):
        loop.update(1, rollout, targets)


def test_bigrams_and_repeated_answers_are_counted_by_hand():
    # ab bc ca ab: three of four are distinct; aa aa: one of two; a single token has no bigram
    assert distinct_bigrams([[1, 2, 3, 1, 2], [5, 5, 5], [9]]) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert distinct_bigrams([[9]]) == 1.0
    assert repeated_answers([[1, 2], [3], [1, 2], [4], [1, 2], [3]]) == pytest.approx(5 / 6)
    assert repeated_answers([[1], [1, 2]]) == 0.0
