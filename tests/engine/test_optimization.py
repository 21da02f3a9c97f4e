"""Optimizers, schedules and the rest of `args`: AdamW by hand, the others by name, one clear error for what there is not."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

torch = pytest.importorskip("torch")
import small  # noqa: E402
from small import PAD, VOCABULARY, Recorder  # noqa: E402
from torch.optim.lr_scheduler import ReduceLROnPlateau  # noqa: E402
from transformers import CohereConfig, CohereForCausalLM, GptOssConfig, GptOssForCausalLM, Trainer  # noqa: E402
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, GreedyLR  # noqa: E402
from transformers.trainer_utils import SchedulerType  # noqa: E402
from transformers.training_args import OptimizerNames  # noqa: E402

import harness  # noqa: E402
from harness.engine.learning import AnswerLikelihood  # noqa: E402
from harness.engine.optimization import make_optimizer, make_scheduler  # noqa: E402
from harness.engine.training import apply_arguments, train  # noqa: E402
from harness.options import SCHEDULE_OPTIONS, UNDRIVEN_OPTIMIZERS, WITHOUT_WARMUP, Optimizer, Schedule  # noqa: E402

pytestmark = pytest.mark.torch

NEED_ARGUMENTS = {
    "cosine_with_min_lr": {"min_lr": 1e-3},
    "cosine_warmup_with_min_lr": {"min_lr": 1e-3},
    "warmup_stable_decay": {"num_decay_steps": 2},
}


SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
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


def gpt_oss() -> Any:
    """Biases of experts are matrices here, one row for each expert."""
    return GptOssForCausalLM(
        GptOssConfig(
            **SIZES, num_local_experts=2, num_experts_per_tok=1, rope_parameters={"rope_type": "default", "rope_theta": 1e4}
        )
    )


def cohere() -> Any:
    """Weights of its norms are matrices here, one row for each head."""
    return CohereForCausalLM(CohereConfig(**SIZES, use_qk_norm=True))


@pytest.mark.parametrize(
    ("make_model", "kept"),
    [
        (gpt_oss, {"gate_up_proj_bias", "down_proj_bias"}),
        (cohere, {"q_norm.weight", "k_norm.weight"}),
    ],
)
def test_biases_and_norms_that_are_matrices_do_not_decay(make_model: Any, kept: set[str]) -> None:
    model = make_model()
    groups = make_optimizer(model, options(weight_decay=0.1)).param_groups
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    matrices = {name: parameter for name, parameter in model.named_parameters() if parameter.ndim > 1}
    not_decayed = {name for name, parameter in matrices.items() if id(parameter) not in decayed}
    assert not_decayed == {name for name in matrices if name.endswith(tuple(kept))}
    assert len(not_decayed) == len(kept)
    assert matrices.keys() - not_decayed == matrices.keys() & set(Trainer.get_decay_parameter_names(None, model))


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


def test_the_names_of_optimizers_and_schedules_are_those_of_transformers() -> None:
    driven = {each.value for each in OptimizerNames if not each.value.startswith(UNDRIVEN_OPTIMIZERS)}
    assert set(get_args(Optimizer)) == driven
    assert set(get_args(Schedule)) == {each.value for each in SchedulerType}


@pytest.mark.parametrize("name", ["adamw_torch_xla", "stable_adamw", "grokadamw"])
def test_an_optimizer_without_its_package_is_one_clear_error(name: str) -> None:
    model, _ = small.line()
    with pytest.raises(harness.StageError) as caught:
        make_optimizer(model, options(args={"optim": name}))
    assert str(caught.value).startswith(f"optimizer '{name}': ")
    assert str(caught.value).endswith("; look at `args`")
    assert "\n" not in str(caught.value)


def test_whatever_an_optimizer_raises_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(*_: Any) -> Any:
        raise AttributeError("module 'torch' has no attribute 'float33'")

    monkeypatch.setattr(Trainer, "get_optimizer_cls_and_kwargs", handler)
    with pytest.raises(
        harness.StageError, match="optimizer 'adamw_anyprecision': module 'torch' has no attribute 'float33'"
    ):
        make_optimizer(small.line()[0], options(args={"optim": "adamw_anyprecision"}))


NEEDY = [each.value for each in OptimizerNames if re.search("galore|apollo|lomo|schedule_free|layerwise", each.value)]


@pytest.mark.parametrize("name", NEEDY)
def test_an_optimizer_that_this_loop_cannot_drive_is_refused_by_name_with_or_without_its_package(name: str) -> None:
    with pytest.raises(ValidationError, match=f"args: optim: {name} is not driven here; take another, such as adafactor"):
        options(args={"optim": name})


def test_where_trl_trains_it_drives_what_this_loop_cannot() -> None:
    class Config(harness.TrainingConfig):
        engine: str = "harness"

    with pytest.raises(ValidationError, match="galore_adamw is not driven here; engine: trl reads it; take another"):
        Config(args={"optim": "galore_adamw"})
    assert Config(args={"optim": "galore_adamw", "optim_target_modules": ["q_proj"]}, engine="trl").args


def test_the_modules_of_an_optimizer_are_not_read() -> None:
    with pytest.raises(ValidationError, match="args: optim_target_modules is not read here; of TrainingArguments optim, "):
        options(args={"optim_target_modules": ["q_proj"]})


@pytest.mark.parametrize("name", [each.value for each in SchedulerType])
def test_every_schedule_of_transformers_runs(tmp_path: Path, name: str) -> None:
    model, objective = small.line()
    needed = {"args": {"lr_scheduler_kwargs": NEED_ARGUMENTS[name]}} if name in NEED_ARGUMENTS else {}
    warm = 0 if name in WITHOUT_WARMUP else 2
    config = options(lr_scheduler_type=name, max_steps=6, logging_steps=1, warmup_steps=warm, **needed)
    context = Recorder(tmp_path)
    train(model, objective, config, context)
    rates = [context.logged[step]["learning_rate"] for step in range(1, 7)]
    assert rates[0] < rates[1] if warm else rates[0] == pytest.approx(0.1)
    assert max(rates) <= 0.1 / 0.95  # `greedy` may raise it
    assert min(rates) >= 0


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        (
            "cosine_with_min_lr",
            {},
            "lr_scheduler_type: cosine_with_min_lr needs either min_lr or min_lr_rate in args.lr_sched",
        ),
        ("cosine_warmup_with_min_lr", {"min_lr": None}, "cosine_warmup_with_min_lr needs either min_lr or min_lr_rate in"),
        (
            "cosine_with_min_lr",
            {"min_lr": 1e-3, "min_lr_rate": 0.1},
            "cosine_with_min_lr needs either min_lr or min_lr_rate",
        ),
        (
            "warmup_stable_decay",
            {"decay_type": "linear"},
            "warmup_stable_decay needs num_decay_steps in args.lr_scheduler_kw",
        ),
        ("polynomial", {"lr_edn": 0.0}, "args: lr_scheduler_kwargs: polynomial has no 'lr_edn'; did you mean \"lr_end\"?"),
        ("constant", {"num_cycles": 1}, "args: lr_scheduler_kwargs: constant has no 'num_cycles'; it has none"),
    ],
)
def test_options_of_a_schedule_are_checked_with_the_plan(name: str, given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        options(lr_scheduler_type=name, args={"lr_scheduler_kwargs": given})
    assert told in str(caught.value)


def test_a_value_that_a_schedule_does_not_take_is_one_clear_error() -> None:
    model, _ = small.line()
    config = options(
        lr_scheduler_type="warmup_stable_decay",
        args={"lr_scheduler_kwargs": {"num_decay_steps": 2, "decay_type": "cliff"}},
    )
    with pytest.raises(harness.StageError, match="lr_scheduler_type 'warmup_stable_decay': Unknown decay type: cliff"):
        make_scheduler(make_optimizer(model, config), config, 6)


def test_the_options_of_schedules_are_those_of_transformers() -> None:
    given = {"self", "optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
    behind = {"reduce_lr_on_plateau": ReduceLROnPlateau, "greedy": GreedyLR}  # what their functions pass **kwargs to
    for kind, function in TYPE_TO_SCHEDULER_FUNCTION.items():
        names = inspect.signature(behind.get(kind.value, function)).parameters
        assert set(SCHEDULE_OPTIONS[kind.value]) == set(names) - given, kind
    assert SCHEDULE_OPTIONS.keys() == {kind.value for kind in TYPE_TO_SCHEDULER_FUNCTION}


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


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"adam_beta1": "x"}, "adam_beta1: input should be a valid number, not 'x'"),
        ({"adam_beta2": 1.0}, "adam_beta2: input should be less than 1, not 1.0"),
        ({"activation_checkpointing": "false"}, "activation_checkpointing: input should be a valid boolean, not 'false'"),
        ({"optim_args": {"momentum": 0.9}}, "optim_args: input should be a valid string, not {'momentum': 0.9}"),
        ({"lr_scheduler_kwargs": [1]}, "lr_scheduler_kwargs: input should be a valid dictionary, not [1]"),
        ({"torch_compile_mode": 3}, "torch_compile_mode: input should be a valid string, not 3"),
        (
            {"activation_checkpointing_kwargs": {"use_reentrant": False}},
            "activation_checkpointing_kwargs: nothing reads it without activation_checkpointing: true",
        ),
        (
            {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"every_layer": 2}},
            "activation_checkpointing_kwargs.every_layer: is not read here; every_n_layers, offload, use_reentrant, ",
        ),
        (
            {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"every_n_layers": 0}},
            "activation_checkpointing_kwargs.every_n_layers: input should be greater than or equal to 1, not 0",
        ),
        (
            {"adam_beta1": "x", "optim": "adamw"},
            "optim: there is no 'adamw'; did you mean \"adamw_torch\"?; adam_beta1: input",
        ),
        ({"optim": 3}, "optim: there is no 3; there are adamw_torch, adamw_torch_fused, "),
    ],
)
def test_arguments_are_checked_with_the_plan(args: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        options(args=args)
    assert f"args: {told}" in str(caught.value)


def layers_computed(tmp_path: Path, **checkpointing: Any) -> list[int]:
    """How often a training step of three rows computes each of two layers."""
    model, counts = small.llama(), [0, 0]
    for number, layer in enumerate(model.model.layers):

        def count(*_: Any, number: int = number) -> None:
            counts[number] += 1

        layer.mlp.register_forward_pre_hook(count)
    args = {"activation_checkpointing": True, "activation_checkpointing_kwargs": checkpointing}
    objective = AnswerLikelihood(model, small.conversations(3), PAD, small.COMPUTE)
    train(model, objective, options(max_steps=1, args=args), Recorder(tmp_path))
    return counts


@pytest.mark.parametrize(
    ("checkpointing", "expected"),
    [
        ({}, [2, 2]),
        ({"every_n_layers": 2}, [2, 1]),
        ({"every_n_layers": 2, "use_reentrant": True}, [2, 1]),
        ({"preserve_rng_state": False}, [2, 2]),
        ({"offload": True}, [2, 2]),
    ],
)
def test_options_of_checkpointing_are_honoured(tmp_path: Path, checkpointing: dict[str, Any], expected: list[int]) -> None:
    assert layers_computed(tmp_path, **checkpointing) == expected


@pytest.mark.parametrize(("device", "offloaded"), [("meta", True), ("cpu", False)])
def test_offload_reaches_the_layers_of_a_model_that_is_elsewhere(device: str, offloaded: bool) -> None:
    model = small.llama().to(device)
    args = {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"offload": True}}
    apply_arguments(model, args)
    function = model.model.layers[0]._gradient_checkpointing_func
    assert (function.func is not torch.utils.checkpoint.checkpoint) == offloaded
    assert "offload" not in function.keywords


def test_a_model_that_cannot_compute_again_is_one_clear_error() -> None:
    model = small.llama()
    model.supports_gradient_checkpointing = False
    with pytest.raises(
        harness.StageError, match=r"^activation_checkpointing: .* does not support .*; take it out of `args`$"
    ):
        apply_arguments(model, {"activation_checkpointing": True})


@pytest.mark.filterwarnings("ignore::UserWarning:torch", "ignore::DeprecationWarning:torch")
@pytest.mark.parametrize(
    ("args", "compiled"),
    [
        ({"torch_compile": False}, False),
        ({"torch_compile": True}, True),
        ({"torch_compile_backend": "eager"}, True),
        ({"torch_compile_mode": "default"}, True),
    ],
)
def test_a_backend_or_mode_alone_compiles_as_in_transformers(args: dict[str, Any], compiled: bool) -> None:
    model = small.llama()
    apply_arguments(model, options(args=args).args)
    assert (model.base_model._compiled_call_impl is not None) == compiled


@pytest.mark.filterwarnings("ignore::UserWarning:torch", "ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("name", ["torch_compile_backend", "torch_compile_mode"])
def test_a_compiler_that_there_is_not_is_one_clear_error(name: str) -> None:
    with pytest.raises(harness.StageError, match=r"^torch_compile: .*nonsense.*; look at `args`$"):
        apply_arguments(small.llama(), {name: "nonsense"})
