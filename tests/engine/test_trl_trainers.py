"""`engine: trl` and the own engine train alike: the same losses, the same gradients, the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from harness_plugins.aligners.dpo import DPO  # noqa: E402
from harness_plugins.aligners.reward import RewardModel  # noqa: E402
from harness_plugins.aligners.sft import SFT  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from small import Recorder, same_bits  # noqa: E402

import harness  # noqa: E402

pytestmark = pytest.mark.torch

TEXT = "the quick brown fox jumps over lazy dog how are you today what is capital of city light"
WORDS = TEXT.split()
ROWS = tuple(
    harness.Preference(
        id=str(number),
        root=str(number),
        prompt=(harness.Message(role="user", content=" ".join(WORDS[number : number + 1 + number % 4])),),
        chosen=" ".join(WORDS[-1 - number :: 2]),
        rejected=" ".join(WORDS[: 2 + number]),
        margin=number / 10,
    )
    for number in range(9)
)
ONE_BATCH = {
    "per_device_train_batch_size": len(ROWS),
    "max_steps": 2,
    "learning_rate": 0.5,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.5,
    "logging_steps": 1,
    "args": {"optim": "sgd"},
}
"""Two steps over all rows, in which neither engine has a choice. With SGD the weights change by the gradient itself."""

CASES: dict[str, tuple[type[harness.Aligner], dict[str, Any]]] = {
    "sft": (SFT, {}),
    "sft-of-both": (SFT, {"answers": "both", "per_device_train_batch_size": 2 * len(ROWS)}),
    "sft-lora": (SFT, {"lora": {"r": 4}}),
    "reward": (RewardModel, {}),
    "reward-margin-centered": (RewardModel, {"margin": True, "center_rewards_coefficient": 0.05}),
    "reward-lora": (RewardModel, {"lora": {"r": 4}}),
    "dpo": (DPO, {"beta": 0.5}),
    "dpo-ipo": (DPO, {"loss_type": "ipo", "beta": 0.5}),
    "dpo-robust": (DPO, {"loss_type": "robust", "label_smoothing": 0.2}),
    "dpo-several": (DPO, {"loss_type": ["sigmoid", "hinge"], "loss_weights": [0.8, 0.3]}),
    "dpo-lora": (DPO, {"lora": {"r": 4}, "beta": 0.5}),
}


class Stage(Recorder):
    """A context that keeps what is worth computing once in a folder of its own."""

    def keep(self, what: str, identity: Any, build: Any) -> Path:
        build(self.output)
        return self.output


def train(kind: str, engine: str, base: Path, folder: Path) -> tuple[Stage, dict[str, Any]]:
    aligner, options = CASES[kind]
    context = run(aligner, ONE_BATCH | options | {"engine": engine}, base, folder)
    return context, load_file(context.output / "model.safetensors")


def run(
    aligner: type[harness.Aligner], options: dict[str, Any], base: Path, folder: Path, kind: type[Stage] = Stage
) -> Stage:
    context = kind(folder)
    inputs = {
        "init": harness.Artifact("base", "model", base, "1"),
        "data": harness.Dataset("rows", "preferences", ROWS, "2"),
    }
    aligner().run(aligner.Config(**options), inputs, context)
    return context


@pytest.mark.parametrize("kind", CASES)
def test_both_engines_train_alike(kind: str, base: Path, tmp_path: Path) -> None:
    (own, weights), (trl, expected) = (train(kind, engine, base, tmp_path / engine) for engine in ("harness", "trl"))
    for step in (1, 2):
        for name in ("loss", "grad_norm", "learning_rate"):
            assert own.logged[step][name] == pytest.approx(trl.logged[step][name], rel=1e-4, abs=1e-6), f"{name} at {step}"
    assert weights.keys() == expected.keys()
    assert max(float((weights[name] - expected[name]).abs().max()) for name in weights) < 1e-4
    start = load_file(base / "model.safetensors")
    moved = max(float((weights[name] - start[name]).abs().max()) for name in weights if name in start)
    assert moved > 1e-2, "without a change there would be nothing to compare"
    assert own.logged[1]["loss"] != own.logged[2]["loss"]


def test_what_dpo_logs_is_what_trl_logs(base: Path, tmp_path: Path) -> None:
    own, trl = (train("dpo", engine, base, tmp_path / engine)[0].logged[2] for engine in ("harness", "trl"))
    names = [name for name in own if name.startswith(("rewards/", "logps/"))]
    assert len(names) == 6
    for name in names:
        assert own[name] == pytest.approx(trl[name], rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize(
    ("loss_type", "text"),
    [
        ("nonsense", "Unknown loss type: nonsense. Should be one of .*; look at its options"),
        ("exo_pair", "Label smoothing must be greater than .*; look at its options"),
    ],
)
def test_a_loss_that_trl_refuses_is_told_in_one_line(loss_type: str, text: str, base: Path, tmp_path: Path) -> None:
    with pytest.raises(harness.StageError, match=f"^stage '.*': {text}$"):
        run(DPO, ONE_BATCH | {"engine": "trl", "loss_type": loss_type}, base, tmp_path)


SMALL = {"per_device_train_batch_size": 3, "learning_rate": 1e-2, "engine": "trl"}


@pytest.mark.parametrize(
    "args",
    [
        {"eval_strategy": "epoch"},
        {"adam_beta1": 2.0},
        {"adam_beta1": "abc"},
        {"optim": "galore_adamw"},
        {"lr_scheduler_kwargs": 3},
        {"deepspeed": "x.json"},
    ],
    ids=str,
)
def test_args_that_transformers_refuses_are_told_in_one_line(args: dict[str, Any], base: Path, tmp_path: Path) -> None:
    with pytest.raises(harness.StageError, match=r"^stage 'stage': [^\n]+; look at its options$"):
        run(SFT, SMALL | {"max_steps": 2, "args": args}, base, tmp_path)


def test_the_last_step_is_logged_whatever_logging_steps_says(base: Path, tmp_path: Path) -> None:
    assert [*run(SFT, SMALL | {"max_steps": 3, "logging_steps": 2}, base, tmp_path).logged] == [2, 3]


class Interrupted(Stage):
    """Ends when it is to log step 4."""

    def log(self, step: int, values: Any, total: int | None = None) -> None:
        if step == 4:
            raise KeyboardInterrupt
        super().log(step, values, total)


def test_a_training_that_is_interrupted_before_it_is_saved_takes_no_step_more(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL writes a checkpoint of the last step, too. Four steps of three rows end within the second pass over nine rows."""
    options = SMALL | {"max_steps": 4, "save_steps": 1, "logging_steps": 1, "lr_scheduler_type": "constant"}
    whole = run(RewardModel, options, base, tmp_path / "whole")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("harness.engine.models.save_model", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(RewardModel, options, base, tmp_path / "cut")
    _goes_on_to_the_same(run(RewardModel, options, base, tmp_path / "cut"), whole, 4)


def test_rows_grouped_by_length_come_in_the_same_order_after_an_interruption(base: Path, tmp_path: Path) -> None:
    args = {"train_sampling_strategy": "group_by_length", "remove_unused_columns": False}
    options = SMALL | {"max_steps": 5, "save_steps": 1, "logging_steps": 1, "args": args}
    whole = run(RewardModel, options, base, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(RewardModel, options, base, tmp_path / "cut", Interrupted)
    _goes_on_to_the_same(run(RewardModel, options, base, tmp_path / "cut"), whole, 5)


def _goes_on_to_the_same(again: Stage, whole: Stage, steps: int) -> None:
    assert (again.rewound, [*again.logged]) == ([3], [*range(4, steps + 1)])
    weights, expected = (load_file(each.output / "model.safetensors") for each in (again, whole))
    assert same_bits(weights, expected)
