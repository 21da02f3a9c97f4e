"""Optimizers and schedules: AdamW by hand, the others by their names, and one clear error for what there is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
import small  # noqa: E402
from small import Recorder  # noqa: E402
from transformers.trainer_utils import SchedulerType  # noqa: E402

import harness  # noqa: E402
from harness.engine.optimization import make_optimizer, make_scheduler  # noqa: E402
from harness.engine.training import train  # noqa: E402

pytestmark = pytest.mark.torch

NEED_ARGUMENTS = {
    "cosine_with_min_lr": {"min_lr": 1e-3},
    "cosine_warmup_with_min_lr": {"min_lr": 1e-3},
    "warmup_stable_decay": {"num_decay_steps": 2},
}


def options(**values: Any) -> harness.TrainingConfig:
    return harness.TrainingConfig(**{"lr_scheduler_type": "constant", "learning_rate": 0.1} | values)


def step_with_gradient(model: torch.nn.Linear, optimizer: torch.optim.Optimizer, gradient: float) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    optimizer.step()


def test_adamw_by_hand() -> None:
    """Its first step has m = g and v = g² once their bias is corrected: w ← w − η λ w − η g / (|g| + ε)."""
    model, _ = small.line()
    before = small.weights(model)
    config = options(weight_decay=0.5, args={"adam_epsilon": 1.0})
    step_with_gradient(model, make_optimizer(model, config), 3.0)
    expected = before["weight"] - 0.1 * 0.5 * before["weight"] - 0.1 * 3 / (3 + 1)
    assert torch.allclose(model.weight, expected, atol=1e-6)
    assert torch.allclose(model.bias, before["bias"] - 0.1 * 3 / (3 + 1), atol=1e-6), "a vector does not decay"


def test_the_second_step_of_adamw_by_hand() -> None:
    """β1 = 0.5, β2 = 0, gradients 1 and 2: m = (0.25 · 1 + 0.5 · 2) / (1 − 0.25), v = 2²."""
    model, _ = small.line()
    before = small.weights(model)
    optimizer = make_optimizer(model, options(args={"adam_beta1": 0.5, "adam_beta2": 0.0}))
    step_with_gradient(model, optimizer, 1.0)
    step_with_gradient(model, optimizer, 2.0)
    expected = before["weight"] - 0.1 * 1 - 0.1 * ((0.25 * 1 + 0.5 * 2) / 0.75) / 2
    assert torch.allclose(model.weight, expected, atol=1e-5)


def test_biases_and_norms_of_a_model_do_not_decay() -> None:
    model = small.gpt2()
    groups = make_optimizer(model, options(weight_decay=0.1)).param_groups
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert len(decays) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert decays[id(parameter)] == (0.0 if name.endswith(".bias") or ".ln_" in name else 0.1), name


def test_frozen_parameters_have_no_optimizer() -> None:
    model, _ = small.line()
    model.bias.requires_grad_(False)
    assert [group["params"] for group in make_optimizer(model, options()).param_groups] == [[model.weight]]


def test_another_rate_and_epsilon_stand_in_for_the_defaults() -> None:
    model, _ = small.line()
    optimizer = make_optimizer(model, options(), learning_rate=0.3, adam_epsilon=1e-5)
    assert {(group["lr"], group["eps"]) for group in optimizer.param_groups} == {(0.3, 1e-5)}
    said = make_optimizer(model, options(args={"adam_epsilon": 1e-3}), adam_epsilon=1e-5)
    assert said.param_groups[0]["eps"] == 1e-3


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adafactor", "Adafactor"), ("sgd", "SGD"), ("adamw_torch", "AdamW"), ("rmsprop", "RMSprop"), ("adagrad", "Adagrad")],
)
def test_another_optimizer_by_its_name(tmp_path: Path, name: str, kind: str) -> None:
    model, objective = small.line()
    config = options(args={"optim": name}, weight_decay=0.1, max_steps=4)
    optimizer = make_optimizer(model, config)
    assert type(optimizer).__name__ == kind
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert {group["lr"] for group in optimizer.param_groups} == {0.1}
    context = Recorder(tmp_path)
    train(model, objective, config.model_copy(update={"logging_steps": 1}), context)
    assert context.logged[4]["loss"] < context.logged[1]["loss"]


def test_options_of_an_optimizer_reach_it() -> None:
    model, _ = small.line()
    config = options(args={"optim": "rmsprop", "optim_args": "momentum=0.9"})
    assert make_optimizer(model, config).param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize("name", ["adamm", "galore_adamw", "adamw_bnb_8bit", "lomo"])
def test_an_optimizer_that_there_is_not_is_one_clear_error(name: str) -> None:
    """An unknown name, and names whose packages are not dependencies."""
    model, _ = small.line()
    with pytest.raises(harness.StageError) as caught:
        make_optimizer(model, options(args={"optim": name}))
    assert str(caught.value).startswith(f"optimizer '{name}': ")
    assert str(caught.value).endswith("; look at `args`")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [each.value for each in SchedulerType])
def test_every_schedule_of_transformers_runs(tmp_path: Path, name: str) -> None:
    model, objective = small.line()
    needed = {"args": {"lr_scheduler_kwargs": NEED_ARGUMENTS[name]}} if name in NEED_ARGUMENTS else {}
    config = options(lr_scheduler_type=name, max_steps=6, logging_steps=1, warmup_steps=2, **needed)
    context = Recorder(tmp_path)
    train(model, objective, config, context)
    rates = [context.logged[step]["learning_rate"] for step in range(1, 7)]
    assert max(rates) <= 0.1 / 0.95  # `greedy` may raise it
    assert min(rates) >= 0


@pytest.mark.parametrize("name", NEED_ARGUMENTS)
def test_a_schedule_without_what_it_needs_is_one_clear_error(name: str) -> None:
    model, _ = small.line()
    config = options(lr_scheduler_type=name)
    with pytest.raises(harness.StageError, match=f"lr_scheduler_type '{name}': "):
        make_scheduler(make_optimizer(model, config), config, 6)


def test_an_unknown_schedule_is_one_clear_error() -> None:
    model, _ = small.line()
    config = options(lr_scheduler_type="liner")
    with pytest.raises(harness.StageError, match=r"lr_scheduler_type 'liner': .*liner"):
        make_scheduler(make_optimizer(model, config), config, 6)


@pytest.mark.parametrize("warmup", [0.25, 2])
def test_warmup_is_a_share_or_a_number_of_steps(tmp_path: Path, warmup: float) -> None:
    """2 of 8 steps rise from 0 to the highest rate, then 6 fall to 0 in a line."""
    model, objective = small.line()
    context = Recorder(tmp_path)
    config = options(lr_scheduler_type="linear", warmup_steps=warmup, max_steps=8, logging_steps=1)
    train(model, objective, config, context)
    rates = [context.logged[step]["learning_rate"] / 0.1 for step in range(1, 9)]
    assert rates == pytest.approx([0, 1 / 2, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_a_schedule_that_goes_by_the_loss_sees_it(tmp_path: Path) -> None:
    """A loss that stays as it is halves the rate after its `patience`; one that falls leaves it."""
    rates = []
    for norm in (1e-30, 1.0):
        model, objective = small.line()
        arguments = {"optim": "sgd", "lr_scheduler_kwargs": {"patience": 2, "factor": 0.5}}
        config = options(
            lr_scheduler_type="reduce_lr_on_plateau", args=arguments, max_grad_norm=norm, max_steps=6, logging_steps=1
        )
        context = Recorder(tmp_path / str(norm))
        train(model, objective, config, context)
        rates.append([context.logged[step]["learning_rate"] / 0.1 for step in range(1, 7)])
    # The first step sets the best loss, the second to fourth do not better it, and the third of these is over the patience.
    assert rates == [[1, 1, 1, 1, 0.5, 0.5], [1] * 6]
