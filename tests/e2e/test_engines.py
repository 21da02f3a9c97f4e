"""Adapters and TRL's trainers in whole plans: every aligner that has them trains with them, from one stage to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from micro import harness

from harness.rundir import RunFolder

pytestmark = pytest.mark.torch

PLAN = """\
name: engines
seed: 3
base: {type: tiny, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 32, vocab_size: 300}
device: cpu
precision: fp32
threads: 1
data:
  toy: {source: toy, pairs: 60}
stages:
  sft-trl:     {aligner: sft, init: base, data: toy, max_steps: 4, logging_steps: 2, engine: trl}
  reward-trl:  {aligner: reward, init: sft-trl, data: toy, max_steps: 4, logging_steps: 2, engine: trl}
  dpo-trl:     {aligner: dpo, init: sft-trl, data: toy, max_steps: 4, logging_steps: 2, engine: trl, loss_type: [sigmoid, ipo]}
  sft-lora:    {aligner: sft, init: base, data: toy, max_steps: 4, logging_steps: 2, lora: {r: 4}}
  reward-lora: {aligner: reward, init: sft-lora, data: toy, max_steps: 4, logging_steps: 2, lora: {r: 4}}
  dpo-lora:    {aligner: dpo, init: sft-lora, data: toy, max_steps: 4, logging_steps: 2, lora: {r: 4}}
  both:        {aligner: dpo, init: sft-lora, data: toy, max_steps: 4, logging_steps: 2, engine: trl, lora: {r: 4}}
  several:     {aligner: dpo, init: sft-lora, data: toy, max_steps: 4, logging_steps: 2, loss_type: [sigmoid, simpo, orpo],
                loss_weights: [1.0, 0.5, 0.25], args: {optim: adafactor, activation_checkpointing: true}}
"""
STAGES = ["sft-trl", "reward-trl", "dpo-trl", "sft-lora", "reward-lora", "dpo-lora", "both", "several"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("engines")
    (folder / "plan.yaml").write_text(PLAN)
    done = harness(folder, "run", "plan.yaml", "--out", "run", "--store", "store")
    assert done.returncode == 0, done.stderr
    return RunFolder(folder / "run")


def model(run: RunFolder, stage: str) -> Path:
    key = run.run()["stages"][stage]["key"]
    return run.path.parent / "store" / key[:2] / key


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_and_logs_its_loss(run: RunFolder, stage: str) -> None:
    assert run.run()["stages"][stage]["status"] == "done"
    assert [each.step for each in run.scalars() if (each.stage, each.name) == (stage, "loss")] == [2, 4]


@pytest.mark.parametrize("stage", STAGES)
def test_its_model_is_a_plain_one_and_another_than_before(run: RunFolder, stage: str) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    kind = AutoModelForSequenceClassification if stage.startswith("reward") else AutoModelForCausalLM
    assert kind.from_pretrained(model(run, stage)).config.model_type == "llama"
    init = {"sft-trl": "base", "sft-lora": "base", "reward-trl": "sft-trl", "dpo-trl": "sft-trl"}.get(stage, "sft-lora")
    weights, start = (load_file(model(run, name) / "model.safetensors") for name in (stage, init))
    assert not any("lora" in name for name in weights)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not weights[name].equal(start[name])


def test_a_reward_head_trained_beside_adapters_scores_the_same_once_reloaded(run: RunFolder) -> None:
    (difference,) = [
        each.value for each in run.scalars() if (each.stage, each.name) == ("reward-lora", "reload_difference")
    ]
    assert difference < 1e-6
