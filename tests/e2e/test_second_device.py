"""A whole plan on a device that is not the processor: no tensor is left behind on the one, or made on the other."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from second_device import Mixed, pretended_gpu  # noqa: E402
from tiny_model import TINY  # noqa: E402

from harness import cli  # noqa: E402
from harness.components import Compute  # noqa: E402
from harness.engine.base import build_base  # noqa: E402
from harness.engine.models import load_policy  # noqa: E402
from harness.rundir import RunFolder  # noqa: E402

pytestmark = pytest.mark.torch

COMPUTE = Compute("cpu", "fp32", 1)
PLAN = """\
name: elsewhere
seed: 3
base: {type: tiny, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 16, vocab_size: 300}
device: cuda
precision: fp32
threads: 1
data:
  toy: {source: toy, pairs: 60, split: {train: 0.5, valid: 0.2, test: 0.3}}
stages:
  sft:      {aligner: sft, init: base, data: toy.train, answers: both, max_steps: 2, per_device_train_batch_size: 4,
             args: {activation_checkpointing: true}}
  reward:   {aligner: reward, init: sft, data: toy.train, valid: toy.valid, max_steps: 2, per_device_train_batch_size: 4}
  dpo:      {aligner: dpo, init: sft, data: toy.train, max_steps: 3, per_device_train_batch_size: 4, save_steps: 1, checkpoints: 2}
  adapters: {aligner: dpo, init: sft, data: toy.train, max_steps: 2, per_device_train_batch_size: 4, lora: {r: 2},
             loss_type: [sigmoid, ipo], loss_weights: [1, 1]}
  ppo:      {aligner: ppo, init: sft, reward: reward, data: toy.train, max_steps: 2, rollout_batch_size: 4,
             per_device_train_batch_size: 2, num_mini_batches: 2, response_length: 6, save_steps: 1, whiten_rewards: true}
  shared:   {aligner: ppo, init: sft, reward: {judge: toy-truth}, data: toy.train, max_steps: 1, rollout_batch_size: 4,
             per_device_train_batch_size: 2, response_length: 6, critic: shared, lora: {r: 2}, entropy_coef: 0.01}
evaluate:
  baseline: sft
  candidates: [dpo, adapters, ppo, shared, best]
  best_of_n: {best: {model: sft, reward: reward, n: 2}}
  suites: {heldout: {data: toy.test, limit: 4}}
  generate: {max_new_tokens: 6}
  judges:
    referee: {judge: reward-model, model: reward, temperature: fit}
  metrics: [win-rate, reward, kl, length, accuracy, chosen-loglik]
  bootstrap: {resamples: 100}
"""


@pytest.fixture
def _with_a_driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if torch and the driver had a GPU, one of before bf16."""
    monkeypatch.setattr("harness.compute.cuda_devices", lambda: 1)
    monkeypatch.setattr("harness.compute.torch_is_cpu_build", lambda: False)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_with_a_driver")
def test_a_plan_runs_on_another_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(PLAN)
    monkeypatch.setattr("harness.engine.inference.take_peak_bytes", lambda: 321)
    with pretended_gpu() as operations:
        for arguments in (
            ["run", "plan.yaml", "--out", "run"],
            ["ask", "run", "Hello?", "--model", "dpo", "--max-new-tokens", "3"],
        ):
            with pytest.raises(SystemExit) as ended:
                cli.main(arguments)
            said = capsys.readouterr()
            assert not ended.value.code, said.err
            # A probe that fails for its device would be taken for one of a model that cannot share prompts.
            assert "prompts are computed once per answer" not in said.err
    assert "── dpo" in said.out
    run = RunFolder(Path("run")).run()
    assert run["device"] == "cuda"
    assert {stage["status"] for stage in run["stages"].values()} == {"done"}
    assert {stage["peak_device_memory_bytes"] for stage in run["stages"].values()} == {321}
    # Models are made, opened and saved on the processor, which draws and sorts, too.
    assert operations["cuda"] > 3 * operations["cpu"]


def test_tensors_of_two_devices_do_not_mix() -> None:
    with pretended_gpu() as operations:
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        for mixed in (
            lambda: there + here,
            lambda: torch.cat([there, here]),
            lambda: there @ here,
            lambda: here[torch.tensor([0], device="cuda")],
            lambda: here * there.sum(),
            lambda: there.index_add(0, torch.tensor([0, 1, 2]), there),
        ):
            with pytest.raises(Mixed):
                mixed()
        assert operations["cuda"] > 0
        # What torch lets through: numbers, indices, copies.
        for fine in (
            there * here.sum(),
            there[torch.tensor([0])],
            there[[0, 2]],
            there + here.to(there.device),
            there.copy_(here),
        ):
            assert fine.device.type == "cuda"
        assert (there.cpu() + here).device.type == "cpu"


def test_a_model_is_the_same_there(tmp_path: Path) -> None:
    """Its positions, which no file holds and transformers makes on opening it, among the rest."""
    build_base(TINY, ["some words"] * 20, tmp_path, COMPUTE, seed=3)
    expected = {name: each.detach().clone() for name, each in _tensors(load_policy(tmp_path, COMPUTE)[0])}
    with pretended_gpu():
        model, _ = load_policy(tmp_path, replace(COMPUTE, device="cuda"))
        assert {each.device.type for _, each in _tensors(model)} == {"cuda"}
        assert all(torch.equal(each.detach().cpu(), expected[name]) for name, each in _tensors(model))
    assert any("inv_freq" in name for name in expected)


def _tensors(model: Any) -> Iterator[tuple[str, Any]]:
    return itertools.chain(model.named_parameters(), model.named_buffers())


def test_gradients_and_optimizers_are_where_their_weights_are() -> None:
    with pretended_gpu():
        layer = torch.nn.Linear(3, 2).to("cuda")
        assert layer.weight.is_cuda
        with pytest.raises(Mixed):
            layer(torch.ones(3))
        first, _ = layer(torch.ones(3, device="cuda")).unbind()  # the gradient of the second is zeros that torch makes
        first.backward()
        assert layer.weight.grad.device.type == "cuda"
        assert layer.weight.grad.tolist() == [[1.0] * 3, [0.0] * 3]
        before = layer.weight.detach().cpu()
        torch.optim.AdamW(layer.parameters(), lr=0.5, weight_decay=0.0, fused=True).step()
        assert torch.allclose(before - layer.weight.detach().cpu(), torch.tensor([[0.5] * 3, [0.0] * 3]))
