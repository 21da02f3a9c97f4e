"""A plan small enough to run in seconds that holds every built-in aligner, and ways to run it as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PLAN = """\
name: micro
seed: 3
base: {type: tiny, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64, vocab_size: 400}
device: cpu
precision: fp32
threads: 1
data:
  toy: {source: toy, pairs: 400, split: {train: 0.5, valid: 0.1, judge: 0.2, test: 0.2}}
stages:
  sft:     {aligner: sft, init: base, data: toy.train, answers: both, learning_rate: 3.0e-3, save_steps: 10, logging_steps: 5}
  reward:  {aligner: reward, init: sft, data: toy.train, valid: toy.valid, learning_rate: 1.0e-3, save_steps: 5}
  referee: {aligner: reward, init: sft, data: toy.judge, valid: toy.valid, learning_rate: 1.0e-3}
  dpo:     {aligner: dpo, init: sft, data: toy.train, beta: 0.1, learning_rate: 3.0e-4, save_steps: 5}
  ppo:     {aligner: ppo, init: sft, reward: reward, data: toy.train, max_steps: 6, rollout_batch_size: 8, save_steps: 2,
            per_device_train_batch_size: 8, response_length: 24, requires: [{model: reward, metric: accuracy, value: ">= 0.1"}]}
evaluate:
  baseline: sft
  candidates: [dpo, ppo]
  suites: {heldout: {data: toy.test, limit: 24}}
  generate: {max_new_tokens: 24}
  judges:
    truth: {judge: toy-truth}
    referee: {judge: reward-model, model: referee}
  metrics: [win-rate, reward, kl, safety, helpfulness, diversity, length, accuracy]
  bootstrap: {resamples: 200}
"""


def command(*arguments: object) -> list[str]:
    """The command line of `harness` with these arguments."""
    return [sys.executable, "-m", "harness", *map(str, arguments)]


def harness(folder: Path, *arguments: object, timeout: float = 600, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a folder, within `timeout` seconds."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def install_plugin(site: Path, module: str, source: str) -> None:
    """Put a plugin of one module into the folder `site`, as an installed distribution of that name."""
    info = site / f"{module}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[harness]\n{module} = {module}\n", encoding="utf-8")
    (site / f"{module}.py").write_text(source, encoding="utf-8")


def estimates(run: Path) -> list[Mapping[str, Any]]:
    """The estimates of a run folder."""
    found: list[Mapping[str, Any]] = json.loads((run / "metrics.json").read_text())["estimates"]
    return found
