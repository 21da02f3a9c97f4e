"""A package of somebody else adds an aligner, a judge and a metric, and one plan uses all three."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from harness.rundir import RunFolder

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

PACKAGE = Path(__file__).resolve().parents[1] / "example_plugin"
PLAN = """\
name: third-party
seed: 3
base: {type: tiny, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 16, vocab_size: 300}
device: cpu
threads: 1
data:
  toy: {source: toy, pairs: 80, split: {train: 0.6, test: 0.4}}
stages:
  simpo: {aligner: simpo, init: base, data: toy.train, learning_rate: 1.0e-2, per_device_train_batch_size: 8, max_steps: 12,
          gamma: 0.5, logging_steps: 1}
evaluate:
  baseline: base
  candidates: [simpo]
  suites: {heldout: {data: toy.test, limit: 12}}
  generate: {max_new_tokens: 12}
  judges: {short: {judge: brevity}}
  metrics: [win-rate, complete]
  bootstrap: {resamples: 200}
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that has the example plugin, on top of everything that is installed here."""
    folder = tmp_path_factory.mktemp("third-party")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    interpreter = folder / "venv" / "bin" / "python"
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "here.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n", encoding="utf-8")
    shutil.copytree(PACKAGE, folder / "package", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--no-cache-dir"]
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", *options, str(folder / "package")]
    result = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return interpreter


def harness(python: Path, folder: Path, *arguments: str) -> str:
    """Standard output of a `harness` command in the plugin's environment."""
    result = subprocess.run(
        [python, "-m", "harness", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def run(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "plan.yaml").write_text(PLAN, encoding="utf-8")
    harness(python, folder, "run", "plan.yaml", "--out", "out", "--store", "store")
    return folder / "out"


def test_plugins_list_shows_name_kind_plugin_and_version(python: Path, tmp_path: Path) -> None:
    rows = [line.split() for line in harness(python, tmp_path, "plugins", "list").splitlines()]
    for name, kind in (("simpo", "aligner"), ("brevity", "judge"), ("complete", "metric")):
        assert [name, kind, "simpo", "harness-simpo", "1.2.0"] in rows


def test_the_aligner_learns_to_prefer_the_chosen_answers(run: Path) -> None:
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [event["values"]["loss"] for event in events if event.get("stage") == "simpo" and "values" in event]
    assert len(losses) == 12
    assert sum(losses[-3:]) < sum(losses[:3])


def test_its_health_rule_watches_the_aligner(run: Path) -> None:
    assert RunFolder(run).health_checked() == {"simpo": (["accuracy"], [])}


def test_adapters_optimizers_and_checkpoints_come_with_the_loop(python: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")
    settings = ["lora={r: 2}", "args={optim: adafactor}", "save_steps=5", "max_steps=6", "gradient_accumulation_steps=2"]
    options = [text for setting in settings for text in ("--set", f"stages.simpo.{setting}")]
    store = str(run.parent / "store")
    harness(python, tmp_path, "run", "plan.yaml", *options, "--only", "simpo", "--out", "out", "--store", store)
    stages = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["stages"]
    assert {name: stage["status"] for name, stage in stages.items()} == {"base": "reused", "simpo": "done"}


def test_the_judge_and_the_metric_give_estimates_with_intervals(run: Path) -> None:
    estimates: list[dict[str, Any]] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["estimates"]
    (win_rate,) = [each for each in estimates if each["metric"] == "win-rate" and each["judge"] == "short"]
    complete = [each for each in estimates if each["metric"] == "complete"]
    assert {each["model"] for each in complete} == {"base", "simpo"}
    for each in [win_rate, *complete]:
        assert each["low"] <= each["value"] <= each["high"]


def test_the_loss_is_the_papers() -> None:
    """beta = 2, gamma = 1: margins 2 · 0.5 - 1 = 0 and 2 · 1 - 1 = 1, so log 2 and log(1 + 1/e)."""
    spec = importlib.util.spec_from_file_location("harness_simpo", PACKAGE / "harness_simpo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loss = module.simpo_loss(torch.tensor([-1.0, -1.0]), torch.tensor([-1.5, -2.0]), beta=2.0, gamma=1.0)
    assert loss.tolist() == pytest.approx([math.log(2), math.log1p(math.exp(-1))])
