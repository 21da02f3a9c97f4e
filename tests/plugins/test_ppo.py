"""PPO as a whole: it learns, its bookkeeping is right, and an interrupted run ends where an undisturbed one does."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

import harness

torch = pytest.importorskip("torch")
from harness_plugins.aligners.ppo import PPOConfig  # noqa: E402
from harness_plugins.aligners.ppo_training import summary  # noqa: E402
from ppo_loop import OPTIONS, make_inputs, run, training, weights  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from harness.engine.training import RowOrder  # noqa: E402

pytestmark = pytest.mark.torch

LEARNING = {
    "max_steps": 16,
    "response_length": 3,
    "lr_scheduler_type": "constant",
    "rollout_batch_size": 64,
    "per_device_train_batch_size": 32,
    "num_ppo_epochs": 4,
    "learning_rate": 1e-2,
    "missing_eos_penalty": 0.0,
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("ppo"))


@pytest.fixture(scope="module")
def free(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run without a penalty."""
    return run(inputs, tmp_path_factory.mktemp("free"), **LEARNING, kl_coef=0.0)


def test_the_reward_rises(free):
    scores = [values["score"] for _, values in sorted(free.logged.items())]
    scaling = json.loads((free.output / "reward_scaling.json").read_text())
    assert scaling["answers"] == LEARNING["rollout_batch_size"]
    assert scaling["mean"] == pytest.approx(scores[0], abs=1e-5)
    # A mean of 64 scores has a standard error of an eighth of their deviation.
    assert scores[-1] - scores[0] > scaling["deviation"]
    assert free.logged[1]["kl"] == pytest.approx(0, abs=1e-5)


def test_a_large_penalty_keeps_the_policy_near_its_reference(inputs, free, tmp_path):
    held, last = run(inputs, tmp_path, **LEARNING, kl_coef=1.0), LEARNING["max_steps"]
    assert held.logged[last]["kl"] < 0.2 * free.logged[last]["kl"]


def test_the_first_ratio_is_one(inputs, tmp_path):
    once = {"num_ppo_epochs": 1, "num_mini_batches": 1, "max_steps": 1, "temperature": 0.7}
    first = run(inputs, tmp_path, **once).logged[1]
    assert first["ratio"] == pytest.approx(1, abs=1e-5)
    assert first["clip_fraction"] == 0
    assert first["approx_kl"] == pytest.approx(0, abs=1e-6)
    # Whitened advantages have mean zero, so the surrogate's mean at ratio 1 is zero.
    assert first["policy_loss"] == pytest.approx(0, abs=1e-5)


def test_the_gradient_does_not_depend_on_micro_batches(inputs, tmp_path):
    gradients = []
    for size in (8, 3, 1):
        loop = training(inputs, tmp_path, per_device_train_batch_size=size, max_grad_norm=1e9)
        rollout, _ = loop.sample(1)
        loop._minibatch(1, rollout, loop.estimate(rollout)[0], torch.arange(8))
        gradients.append([parameter.grad for model in (loop.policy, loop.critic) for parameter in model.parameters()])
    for other in gradients[1:]:
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients[0], other, strict=True))
    assert max(gradient.abs().max() for gradient in gradients[0]) > 1e-3


def test_a_minibatch_that_runs_out_of_memory_is_the_same(inputs, tmp_path, monkeypatch):
    """In its second micro-batch, when gradient and measures of the first have been added."""
    found = []
    for calls_that_fit in (math.inf, 1):
        loop = training(inputs, tmp_path, per_device_train_batch_size=3)
        loop.batches = replace(loop.batches, compute=harness.Compute("cpu", "fp32", 1))
        rollout, _ = loop.sample(1)
        add, asked = loop._micro_batch, []

        def short_of_memory(*arguments, add=add, asked=asked, fit=calls_that_fit):
            asked.append(len(arguments[2]))
            if len(asked) == fit + 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return add(*arguments)

        monkeypatch.setattr(loop, "_micro_batch", short_of_memory)
        measured = loop._minibatch(1, rollout, loop.estimate(rollout)[0], torch.arange(8))
        found.append((measured, [each.grad for model in (loop.policy, loop.critic) for each in model.parameters()]))
    assert loop.batches.compute.memory.halvings >= 1
    (whole, expected), (again, gradients) = found
    assert again == pytest.approx(whole, rel=1e-4, abs=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(expected, gradients, strict=True))


def test_gradients_are_clipped_and_logged_before(inputs, tmp_path):
    loop = training(inputs, tmp_path, max_grad_norm=1e-3)
    rollout, _ = loop.sample(1)
    measured = loop._minibatch(1, rollout, loop.estimate(rollout)[0], torch.arange(8))
    norm = math.sqrt(sum(float(parameter.grad.square().sum()) for parameter in loop.policy.parameters()))
    assert norm == pytest.approx(1e-3, rel=1e-2)
    assert measured["grad_norm"] > 1e-2


def test_a_runaway_ratio_skips_the_minibatch(inputs, tmp_path):
    loop = training(inputs, tmp_path)
    rollout, _ = loop.sample(1)
    targets, _ = loop.estimate(rollout)
    rollout.logprobs.sub_(5.0)  # ratios of e^5 = 148
    before = [parameter.clone() for parameter in loop.policy.parameters()]
    measured = loop.update(1, rollout, targets)
    assert measured["skipped"] == OPTIONS["num_ppo_epochs"] * OPTIONS["num_mini_batches"]
    assert "policy_loss" not in measured
    assert all(torch.equal(a, b) for a, b in zip(before, loop.policy.parameters(), strict=True))


def test_a_cut_off_answer_is_penalised(inputs, tmp_path):
    loop = training(inputs, tmp_path, missing_eos_penalty=3.0, kl_coef=0.0)
    rollout, _ = loop.sample(1)
    assert not rollout.stopped.all()
    _, measured = loop.estimate(rollout)
    # Scaled scores of the first rollout have mean zero, so only the penalty is left.
    assert measured["reward"] == pytest.approx(-3.0 * measured["missing_eos"], abs=1e-4)


def test_answers_are_laid_out_as_sampled(inputs, tmp_path):
    rollout, _ = training(inputs, tmp_path).sample(1)
    lengths = [len(sequence.answer_ids) for sequence in rollout.sequences]
    assert rollout.mask.sum(-1).tolist() == lengths
    for values in (rollout.logprobs, rollout.ref_logprobs, rollout.values):
        assert values.shape == rollout.mask.shape
        assert not values[~rollout.mask].any()
    assert torch.allclose(rollout.logprobs, rollout.ref_logprobs, atol=1e-5)  # nothing is learned yet


@pytest.mark.parametrize("max_steps", [-1, 0])
def test_every_epoch_sees_every_prompt_once(inputs, tmp_path, max_steps):
    loop = training(inputs, tmp_path, rollout_batch_size=7, max_steps=max_steps, num_train_epochs=2.0)
    assert loop.steps == 4
    seen = [[sequence.prompt_ids for sequence in loop.sample(step)[0].sequences] for step in range(1, 5)]
    epochs = [seen[0] + seen[1], seen[2] + seen[3]]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(loop.prompts)
    assert epochs[0] != epochs[1]
    rounded_up = training(inputs, tmp_path, rollout_batch_size=8, max_steps=max_steps, num_train_epochs=2.0)
    assert rounded_up.steps == 4  # 28 / 8
    order = RowOrder(14, 11, "prompts")
    assert order.rows(7, 14) == order.rows(0, 14)[7:]
    assert order.rows(0, 14) != RowOrder(14, 11).rows(0, 14)


def test_early_stopping_ends_the_inner_epochs(inputs, tmp_path):
    loop = training(inputs, tmp_path, num_ppo_epochs=50, early_stop_kl=1e-9, learning_rate=1e-2)
    rollout, _ = loop.sample(1)
    targets, _ = loop.estimate(rollout)
    calls: list[int] = []
    original = loop._minibatch
    loop._minibatch = lambda *arguments: calls.append(1) or original(*arguments)  # type: ignore[method-assign,func-returns-value]
    assert loop.update(1, rollout, targets)["epochs"] == 1
    assert len(calls) == OPTIONS["num_mini_batches"]


def test_a_skipped_minibatch_ends_no_epochs(inputs, tmp_path):
    options = {"num_ppo_epochs": 3, "num_mini_batches": 8, "per_device_train_batch_size": 1, "learning_rate": 1e-6}
    loop = training(inputs, tmp_path, **options, early_stop_kl=0.5)
    rollout, _ = loop.sample(1)
    targets, _ = loop.estimate(rollout)
    rollout.logprobs[0].sub_(6.0)  # a ratio of e^6, and 397 nats by k3, for one of eight answers
    measured = loop.update(1, rollout, targets)
    assert (measured["skipped"], measured["epochs"]) == (3, 3)
    assert measured["approx_kl"] < 1e-4


def test_what_is_logged_now_and_then_is_of_all_iterations():
    first = {"reward": 1.0, "policy_loss": 4.0, "skipped": 1, "beta": 0.1, "lr": 1e-3, "critic_lr": 2e-3}
    second = {"reward": 2.0, "skipped": 8, "beta": 0.2, "lr": 5e-4, "critic_lr": 1e-3}
    expected = {"reward": 1.5, "policy_loss": 4.0, "skipped": 9, "beta": 0.2, "lr": 5e-4, "critic_lr": 1e-3}
    assert summary([first, second]) == expected
    assert summary([first]) == first


def test_a_resumed_run_logs_what_was_measured_before_it_stopped(inputs, tmp_path):
    options = {"save_steps": 1, "logging_steps": 2}
    undisturbed = run(inputs, tmp_path / "a", **options)
    assert sorted(undisturbed.logged) == [2, 4]
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path / "b", fail_at=4, **options)
    resumed = run(inputs, tmp_path / "b", **options)
    assert resumed.rewound == [3]
    assert resumed.logged == {4: undisturbed.logged[4]}


@pytest.mark.parametrize("fail_at", [2, 4])
def test_an_interrupted_run_ends_with_the_same_bits(inputs, tmp_path, fail_at):
    options = {"save_steps": 1, "target_kl": 0.01, "horizon": 20, "warmup_steps": 2}
    undisturbed = run(inputs, tmp_path / "a", **options)
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path / "b", fail_at=fail_at, **options)
    resumed = run(inputs, tmp_path / "b", **options)
    assert resumed.rewound == [fail_at - 1]
    assert resumed.logged == {step: values for step, values in undisturbed.logged.items() if step >= fail_at}
    expected = weights(undisturbed)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(resumed).items())
    scaling = [(context.output / "reward_scaling.json").read_text() for context in (undisturbed, resumed)]
    assert scaling[0] == scaling[1]


def test_a_diverged_policy_is_a_stage_error(inputs, tmp_path):
    loop = training(inputs, tmp_path)
    rollout, _ = loop.sample(1)
    targets, _ = loop.estimate(rollout)
    with torch.no_grad():
        next(loop.policy.parameters()).fill_(float("nan"))
    with pytest.raises(harness.StageError, match="policy_loss is nan at step 1"):
        loop.update(1, rollout, targets)


def test_too_many_over_long_prompts_are_a_data_error(inputs, tmp_path):
    # A system message is never cut, so a long one leaves no way to fit.
    system = harness.Message(role="system", content="lazy dog " * 50)
    rows = tuple(row.model_copy(update={"prompt": (system, *row.prompt)}) for row in inputs["data"].rows)
    inputs = inputs | {"data": harness.Dataset("words", "prompts", rows, "4")}
    with pytest.raises(harness.DataError, match="14 of 14 prompts of words leave no room for 8 new tokens in 64"):
        training(inputs, tmp_path)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"args": {"group_by_length": True}}, "args: group_by_length is not read here"),
        ({"args": {"torch_compile": True}}, "args: ppo does not read torch_compile"),
        ({"critic": "none"}, "'separate' or 'shared'"),
        ({"gradient_accumulation_steps": 2}, "leave it out"),
        ({"num_mini_batches": 9}, "num_mini_batches"),
        ({"response_length": 60}, "response_length"),
        ({"temperature": 0.0}, "greater than 0"),
        ({"target_kl": 1.0, "kl_coef": 0.0}, "kl_coef: target_kl multiplies it, and 0 stays 0"),
        ({"horizon": 100}, "horizon: only an adaptive β reads it; give target_kl, or leave it out"),
        ({"target_kl": 1.0, "horizon": 7}, "horizon: 7 answers are fewer than the 8 of one rollout"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, text):
    with pytest.raises(ValidationError, match=text):
        PPOConfig(**OPTIONS | options)
