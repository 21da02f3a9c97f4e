"""The loop: a step is the same however it is cut, every row has its turn, and an interruption changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
import small  # noqa: E402
from small import COMPUTE, PAD, Recorder  # noqa: E402

import harness  # noqa: E402
from harness.engine import micro_batches, packing, training  # noqa: E402
from harness.engine.checkpoints import load_checkpoint  # noqa: E402
from harness.engine.learning import AnswerLikelihood, PairPreference, PairReward  # noqa: E402
from harness.engine.pairs import PairLayout, pair_logprobs, pair_scores, read_all  # noqa: E402
from harness.engine.preference_losses import LossOptions, preference_loss  # noqa: E402

pytestmark = pytest.mark.torch

ROWS = 12
PLAIN_SGD = {"args": {"optim": "sgd"}, "learning_rate": 1.0, "max_grad_norm": 1e9, "max_steps": 1}
"""One step of these is one gradient: the weights change by it."""


def options(**values: Any) -> harness.TrainingConfig:
    return harness.TrainingConfig(**{"lr_scheduler_type": "constant", "per_device_train_batch_size": 4} | values)


def sft(model: Any) -> AnswerLikelihood:
    return AnswerLikelihood(model, small.conversations(ROWS), PAD, COMPUTE)


def dpo(model: Any, shared: bool = True) -> PairPreference:
    pairs, layout = small.pairs(ROWS), PairLayout(shared)
    reference = read_all(pair_logprobs, model, pairs, layout, PAD, COMPUTE) - 0.7 * torch.arange(2 * ROWS).reshape(-1, 2)

    def loss(logprobs: Any) -> torch.Tensor:
        return preference_loss(logprobs, ["sigmoid"], [1.0], LossOptions())

    return PairPreference(model, pairs, layout, PAD, COMPUTE, loss, 0.1, reference)


def reward(model: Any, shared: bool = True) -> PairReward:
    return PairReward(model, small.pairs(ROWS), PairLayout(shared), PAD, COMPUTE, centering=0.01, use_margin=True)


OBJECTIVES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "sft": (small.llama, sft),
    "dpo": (small.llama, dpo),
    "dpo-separate": (small.llama, lambda model: dpo(model, shared=False)),
    "reward": (small.reward_llama, reward),
    "reward-separate": (small.reward_llama, lambda model: reward(model, shared=False)),
}


def train(kind: str, folder: Path, **values: Any) -> tuple[dict[str, torch.Tensor], Recorder]:
    """The weights after a training, and what was logged."""
    make_model, make_objective = OBJECTIVES[kind]
    model, context = make_model(), Recorder(folder)
    training.train(model, make_objective(model), options(**values), context)
    return small.weights(model), context


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_step_does_not_depend_on_how_it_is_cut(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = [(12, 1, 4096), (6, 2, 4096), (1, 12, 4096), (12, 1, 40), (4, 3, 25)]
    start, found = small.weights(OBJECTIVES[kind][0]()), []
    for number, (size, accumulated, tokens) in enumerate(cuts):
        monkeypatch.setattr(micro_batches, "MAX_TOKENS", tokens)
        cut = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated}
        after, context = train(kind, tmp_path / str(number), **PLAIN_SGD, **cut)
        found.append(({name: start[name] - after[name] for name in start}, context.logged[1]))
    gradient, logged = found[0]
    size = math.sqrt(sum(float(each.square().sum()) for each in gradient.values()))
    assert logged["grad_norm"] == pytest.approx(size, rel=1e-4)
    assert size > 0.1
    for other, also_logged in found[1:]:
        assert also_logged == pytest.approx(logged, rel=1e-5, abs=1e-5)
        assert max(float((gradient[name] - other[name]).abs().max()) for name in gradient) < 1e-5


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_step_that_runs_out_of_memory_is_the_same(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its second micro-batch, when the gradient of the first has been added and its measures noted."""
    monkeypatch.setattr(micro_batches, "MAX_TOKENS", 60)
    whole, told = train(kind, tmp_path / "whole", **PLAIN_SGD, per_device_train_batch_size=ROWS)
    make_model, make_objective = OBJECTIVES[kind]
    model, context = make_model(), Recorder(tmp_path / "short")
    context.compute = harness.Compute("cpu", "fp32", 1)
    objective = make_objective(model)
    losses, asked = objective.losses, list[int]()

    def short_of_memory(rows: Any) -> Any:
        asked.append(len(rows))
        if len(asked) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(rows)

    monkeypatch.setattr(objective, "losses", short_of_memory)
    training.train(model, objective, options(**PLAIN_SGD, per_device_train_batch_size=ROWS), context)
    assert context.compute.memory.halvings >= 1
    assert sum(asked[2:]) == ROWS
    assert context.logged[1] == pytest.approx(told.logged[1], rel=1e-5, abs=1e-5)
    after = small.weights(model)
    assert max(float((after[name] - whole[name]).abs().max()) for name in whole) < 1e-5


def test_the_loss_of_sft_is_a_mean_over_the_answer_tokens_of_the_step(tmp_path: Path) -> None:
    """Not a mean of the means of micro-batches, in which a short answer's tokens would count for more."""
    model, rows = small.llama(), small.conversations(ROWS)
    start = small.weights(model)
    logprobs = []
    for row in rows:
        ids = torch.tensor([[*row.prompt_ids, *row.answer_ids]])
        found = model(ids).logits.log_softmax(-1)[0, len(row.prompt_ids) - 1 : -1]
        logprobs.append(found.gather(-1, torch.tensor(row.answer_ids)[:, None]).flatten())
    loss = -torch.cat(logprobs).mean()
    loss.backward()
    cut = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 4}
    after, context = train("sft", tmp_path, **PLAIN_SGD, **cut)
    assert context.logged[1]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert context.logged[1]["num_tokens"] == sum(len(row.prompt_ids) + len(row.answer_ids) for row in rows)
    for name, parameter in model.named_parameters():
        assert torch.allclose(start[name] - after[name], parameter.grad, atol=1e-5), name


def test_every_pass_takes_every_row_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    model, objective = small.line(10)
    config = options(num_train_epochs=3, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    assert training.train(model, objective, config, Recorder(tmp_path)) == 8  # 30 rows in steps of 4
    # A step is cut by length, which here is the same for all rows, so rows are asked for in the order that they are drawn.
    passes = [objective.asked[start : start + 10] for start in (0, 10, 20)]
    assert [sorted(each) for each in passes] == [list(range(10))] * 3
    assert len({tuple(each) for each in passes}) == 3


@pytest.mark.parametrize(
    ("values", "steps", "rows"),
    [
        ({"num_train_epochs": 0.5}, 2, 5),
        ({"num_train_epochs": 1.25}, 4, 13),
        ({"max_steps": 3}, 3, 12),
        ({"max_steps": 4, "num_train_epochs": 9}, 4, 16),
    ],
)
def test_a_share_of_a_pass_or_a_number_of_steps_can_be_taken(
    tmp_path: Path, values: dict[str, Any], steps: int, rows: int
) -> None:
    model, objective = small.line(10)
    assert training.train(model, objective, options(**values), Recorder(tmp_path)) == steps
    assert len(objective.asked) == rows == training.rows_to_take(options(**values), 10)


def test_scalars_are_means_over_all_rows_since_the_last_time(tmp_path: Path) -> None:
    model, objective = small.line(8)
    context = Recorder(tmp_path)
    training.train(model, objective, options(logging_steps=2, max_steps=3, learning_rate=1e-30), context)
    losses = (model(objective.inputs).squeeze(-1) - objective.targets).square().detach()
    assert sorted(context.logged) == [2, 3]
    assert context.logged[2]["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert context.logged[3]["loss"] == pytest.approx(float(losses[objective.asked[8:]].mean()), rel=1e-5)
    assert [context.logged[step]["num_tokens"] for step in (2, 3)] == [24, 36]


class Killed(Exception):
    """What stands for a kill: nothing in the program catches it."""


def killed(objective: Any, step: int) -> Any:
    """The objective, which dies in its `step`-th step, before anything of that step is learned."""
    original, left = objective.weight, iter(range(step - 1))

    def weight(rows: Any) -> float:
        if next(left, None) is None:
            raise Killed
        return float(original(rows))

    objective.weight = weight
    return objective


INTERRUPTED: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], dict[str, Any]]] = {
    "sft-with-dropout": (small.gpt2, sft, {}),
    "sft-with-lora": (small.gpt2, sft, {"lora": {"r": 2}}),
    "dpo": (small.llama, dpo, {"lr_scheduler_type": "cosine", "warmup_steps": 0.3}),
    "dpo-with-lora": (small.llama, dpo, {"lora": {"r": 2}}),
    "reward-with-lora": (small.reward_llama, reward, {"lora": {"r": 2}}),
    "adafactor": (small.llama, sft, {"args": {"optim": "adafactor"}}),
    "by-the-loss": (small.llama, sft, {"lr_scheduler_type": "greedy", "args": {"lr_scheduler_kwargs": {"patience": 1}}}),
}


@pytest.mark.parametrize("kind", INTERRUPTED)
def test_an_interrupted_run_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    make_model, make_objective, values = INTERRUPTED[kind]
    # Checkpoints fall between log steps, so that what is measured but not logged has to survive, too.
    values = {"max_steps": 8, "learning_rate": 1e-2, "save_steps": 2, "logging_steps": 3, **values}

    def run(folder: Path, *kills: int) -> tuple[dict[str, torch.Tensor], Recorder]:
        context = Recorder(folder)
        for kill in kills:
            model = make_model()
            with pytest.raises(Killed):
                training.train(model, killed(make_objective(model), kill), options(**values), context)
        model = make_model()
        training.train(model, make_objective(model), options(**values), context)
        return small.weights(model), context

    expected, undisturbed = run(tmp_path / "undisturbed")
    assert sorted(undisturbed.logged) == [3, 6, 8]
    for kills, gone_on_at in {(1,): [], (2,): [], (5, 3): [4, 6], (8,): [6]}.items():
        found, resumed = run(tmp_path / "-".join(map(str, kills)), *kills)
        assert small.same_bits(found, expected), f"killed at {kills}"
        assert resumed.logged == undisturbed.logged, f"killed at {kills}"
        assert resumed.rewound == gone_on_at
        assert resumed.notes == [f"goes on from its checkpoint at step {step}" for step in gone_on_at]


def test_dropout_is_on_in_training_and_off_at_the_end(tmp_path: Path) -> None:
    """Were it off, the test above would not show that a resumed run draws it alike."""
    losses = []
    for rate in (0.0, 0.3):
        model = small.gpt2(resid_pdrop=rate)
        context = Recorder(tmp_path / str(rate))
        training.train(model, sft(model), options(max_steps=1), context)
        losses.append(context.logged[1]["loss"])
        assert not model.training
    assert abs(losses[0] - losses[1]) > 1e-3


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    found = []
    for seed in (11, 12):
        model, context = small.llama(), Recorder(tmp_path / str(seed))
        context.seed = seed
        training.train(model, sft(model), options(max_steps=2, learning_rate=1e-2), context)
        found.append(small.weights(model))
    assert not small.same_bits(*found)


def test_gradients_are_clipped_and_logged_as_they_were(tmp_path: Path) -> None:
    start = small.weights(small.llama())
    free, before = train("sft", tmp_path / "free", **PLAIN_SGD)
    held, context = train("sft", tmp_path / "held", **PLAIN_SGD | {"max_grad_norm": 0.01})

    def change(after: dict[str, torch.Tensor]) -> float:
        return math.sqrt(sum(float((after[name] - start[name]).square().sum()) for name in start))

    assert change(held) == pytest.approx(0.01, rel=1e-3)
    assert context.logged[1]["grad_norm"] == before.logged[1]["grad_norm"] == pytest.approx(change(free), rel=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_stage_before_anything_is_learned_from_it(tmp_path: Path, value: float) -> None:
    model, objective = small.line(12)
    original, context = objective.losses, Recorder(tmp_path)

    def losses(rows: Any) -> Any:
        found, measured = original(rows)
        return (found * value, measured) if len(objective.asked) > 8 else (found, measured)  # from the third step on

    objective.losses = losses
    with pytest.raises(harness.StageError, match="stage 'stage': the loss or its gradient is not finite at step 3"):
        training.train(model, objective, options(save_steps=1, learning_rate=0.1), context)
    step, state = load_checkpoint(context.checkpoints, "cpu")
    assert step == 2
    assert small.same_bits(small.weights(model), state["model"])
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["sft", "dpo", "reward"])
def test_activation_checkpointing_changes_no_gradient(kind: str, tmp_path: Path) -> None:
    plain, _ = train(kind, tmp_path / "plain", **PLAIN_SGD)
    arguments = {"args": PLAIN_SGD["args"] | {"activation_checkpointing": True}}
    recomputed, _ = train(kind, tmp_path / "recomputed", **PLAIN_SGD | arguments)
    assert max(float((plain[name] - recomputed[name]).abs().max()) for name in plain) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "dpo", "reward"])
@pytest.mark.filterwarnings("ignore::UserWarning:torch", "ignore::DeprecationWarning:torch")
def test_a_compiled_model_gives_the_same_gradient(kind: str, tmp_path: Path) -> None:
    plain, expected = train(kind, tmp_path / "plain", **PLAIN_SGD)
    arguments = {"args": PLAIN_SGD["args"] | {"torch_compile": True}}
    compiled, context = train(kind, tmp_path / "compiled", **PLAIN_SGD | arguments)
    assert context.logged[1]["loss"] == pytest.approx(expected.logged[1]["loss"], rel=1e-5)
    assert max(float((plain[name] - compiled[name]).abs().max()) for name in plain) < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:torch", "ignore::DeprecationWarning:torch")
def test_a_model_that_was_compiled_is_read_with_packed_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PACKED_WEIGHTS", range(1, 2**20))
    model = small.reward_llama()
    training.train(model, reward(model), options(max_steps=1, args={"torch_compile": True}), Recorder(tmp_path))
    again = small.reward_llama()
    again.load_state_dict(model.state_dict())
    found, expected = (
        read_all(pair_scores, each, small.pairs(ROWS), PairLayout(), PAD, COMPUTE) for each in (model, again.eval())
    )
    assert torch.equal(found, expected)


def test_activation_checkpointing_computes_layers_again(tmp_path: Path) -> None:
    calls = {}
    for again in (False, True):
        model = small.llama()
        calls[again] = 0

        def count(*_: Any, again: bool = again) -> None:
            calls[again] += 1

        model.model.layers[0].mlp.register_forward_pre_hook(count)
        arguments = {"activation_checkpointing": again}
        training.train(model, sft(model), options(max_steps=1, args=arguments), Recorder(tmp_path / str(again)))
    assert calls == {False: 1, True: 2}


def test_bf16_trains_fp32_weights_that_a_small_learning_rate_moves(tmp_path: Path) -> None:
    """A weight in bf16 has 8 bits of mantissa: a step of 5e-7 would be rounded away for all but the smallest."""
    compute = harness.Compute("cpu", "bf16", 1)
    model, context = small.llama(), Recorder(tmp_path)
    context.compute = compute
    before = small.weights(model)
    config = options(max_steps=2, learning_rate=5e-7)
    training.train(model, AnswerLikelihood(model, small.conversations(ROWS), PAD, compute), config, context)
    after = small.weights(model)
    moved = [float((after[name] != before[name]).float().mean()) for name in before if "layers" in name]
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    assert min(moved) > 0.5
    rounded = [
        float((after[name].bfloat16() != before[name].bfloat16()).float().mean()) for name in before if "layers" in name
    ]
    assert max(rounded) < 0.05
