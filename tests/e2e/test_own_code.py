"""A base that brings code of its own: it runs in every stage and command of a plan that trusts it, and nowhere else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from micro import harness
from tiny_model import TINY

from harness import Compute
from harness.rundir import RunFolder

pytest.importorskip("torch")
from harness.engine.base import build_base

pytestmark = pytest.mark.torch

CONFIGURATION = """\
from transformers import LlamaConfig


class MineConfig(LlamaConfig):
    model_type = "mine"
"""
MODELING = """\
import torch
from transformers import LlamaForCausalLM, LlamaModel, LlamaPreTrainedModel

from .configuration_mine import MineConfig


class MineForCausalLM(LlamaForCausalLM):
    config_class = MineConfig


class MineForSequenceClassification(LlamaPreTrainedModel):
    config_class = MineConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.score = torch.nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()
"""
PLAN = """\
name: mine
seed: 3
base: mine
trust_remote_code: true
device: cpu
precision: fp32
threads: 1
data: {toy: {source: toy, pairs: 100, split: {train: 0.6, valid: 0.2, test: 0.2}}}
stages:
  reward: {aligner: reward, init: base, data: toy.train, valid: toy.valid, max_steps: 1}
  ppo:    {aligner: ppo, init: base, reward: reward, data: toy.train, max_steps: 1, rollout_batch_size: 4, response_length: 8}
evaluate:
  baseline: base
  candidates: [ppo]
  suites: {held: {data: toy.test, limit: 10}}
  generate: {max_new_tokens: 8}
  judges: {referee: {judge: reward-model, model: reward}}
  metrics: [win-rate, reward, kl, accuracy]
  bootstrap: {resamples: 100}
"""
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plan and its base."""
    folder = tmp_path_factory.mktemp("own-code")
    base = folder / "mine"
    build_base(TINY, ["the quick brown fox jumps over the lazy dog"] * 20, base, Compute("cpu", "fp32", 1), seed=3)
    config = json.loads((base / "config.json").read_text())
    kinds = ("ForCausalLM", "ForSequenceClassification")
    code = {"AutoConfig": "configuration_mine.MineConfig"} | {
        f"AutoModel{kind}": f"modeling_mine.Mine{kind}" for kind in kinds
    }
    config |= {"model_type": "mine", "architectures": ["MineForCausalLM"], "auto_map": code}
    (base / "config.json").write_text(json.dumps(config))
    (base / "configuration_mine.py").write_text(CONFIGURATION)
    (base / "modeling_mine.py").write_text(MODELING)
    (folder / "plan.yaml").write_text(PLAN)
    return folder


@pytest.fixture
def call(home: Path) -> Command:
    """`harness`, with a place of its own for the code that transformers copies."""
    return lambda *arguments: harness(home, *arguments, HF_HOME=str(home / "hf"))


def test_it_runs_where_the_plan_trusts_it(home: Path, call: Command) -> None:
    done = call("run", "plan.yaml", "--out", "run")
    assert done.returncode == 0, done.stderr
    stages = RunFolder(home / "run").run()["stages"]
    assert {name: stage["status"] for name, stage in stages.items()} == dict.fromkeys(("base", "reward", "ppo"), "done")
    code = home / "runs/.store" / stages["ppo"]["key"][:2] / stages["ppo"]["key"] / "modeling_mine.py"
    assert "MineForCausalLM" in code.read_text(), "the model that was trained opens by itself"
    answered = call("ask", "run", "hello", "--max-new-tokens", 2)
    assert answered.returncode == 0, answered.stderr


def test_it_does_not_run_where_the_plan_does_not_trust_it(home: Path, call: Command) -> None:
    done = call("run", "plan.yaml", "--out", "refused", "--set", "trust_remote_code=false")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last == "base mine: brings code of its own; read it, and let it run with `trust_remote_code: true`"
