"""Runs that end before anything is trained still leave a run folder and a report that say why."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import cli

PLAN = """\
name: unread
base: {type: tiny}
data: {mine: {source: preferences, path: broken.jsonl}}
stages: {sft: {aligner: sft, init: base, data: mine}}
"""

MEASURED = """\
name: measured
base: {type: tiny, hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 8, vocab_size: 300}
device: cpu
threads: 1
data:
  toy: {source: toy, pairs: 24, split: {train: 0.6, test: 0.4}}
stages:
  sft: {aligner: sft, init: base, data: toy.train, max_steps: 1, per_device_train_batch_size: 2}
evaluate:
  baseline: base
  candidates: [sft]
  suites: {heldout: {data: toy.test, limit: 3}}
  generate: {max_new_tokens: 4}
  metrics: [length]
  bootstrap: {resamples: 100}
"""


@pytest.fixture(autouse=True)
def _terminate_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_data_that_cannot_be_read_end_the_run_with_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "run"), "--store", str(tmp_path / "store")])
    assert ended.value.code == 1
    reason = "broken.jsonl:1: not valid JSON"
    assert reason in capsys.readouterr().err
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["status"] == "failed"
    assert reason in run["error"]
    assert reason in (tmp_path / "run" / "report.html").read_text()


def test_a_run_says_that_its_processor_imitates_bf16(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cpuinfo").write_text("flags\t: fpu avx2 fma\n")
    monkeypatch.setattr("harness.compute.CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "plan.yaml").write_text(f"device: cpu\nprecision: bf16\n{PLAN}")
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(SystemExit):
        cli.main(["run", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "run"), "--store", str(tmp_path / "store")])
    [warning] = json.loads((tmp_path / "run" / "run.json").read_text())["warnings"]
    assert warning.startswith("precision: bf16: this processor has no bf16 matrix products")
    assert warning in capsys.readouterr().err


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(tmp_path / "plan.yaml"), "--out", str(tmp_path), "--store", str(tmp_path / "store")])
    assert ended.value.code == 2
    assert "holds something else than a run" in capsys.readouterr().err
    assert (tmp_path / "plan.yaml").read_text() == PLAN


@pytest.mark.torch
def test_a_run_that_ran_out_of_memory_says_so_and_has_it_in_the_lock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    from transformers import LlamaForCausalLM

    whole = LlamaForCausalLM.forward

    def small_device(model: Any, *args: Any, **kwargs: Any) -> Any:
        if not model.training and len(kwargs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(model, *args, **kwargs)

    monkeypatch.setattr(LlamaForCausalLM, "forward", small_device)
    (tmp_path / "plan.yaml").write_text(MEASURED)
    out = tmp_path / "run"
    arguments = ["run", str(tmp_path / "plan.yaml"), "--out", str(out), "--store", str(tmp_path / "store")]
    assert cli.cli.main(arguments, standalone_mode=False) == 0
    lock = json.loads((out / "plan.lock.json").read_text())
    assert lock["token_budget"]["halvings"] > 0
    assert "out of memory with" in lock["token_budget"]["last"]
    assert lock["token_budget"]["last"] in json.loads((out / "run.json").read_text())["warnings"]
    assert lock["token_budget"]["last"] in capsys.readouterr().err
    assert len((out / "samples" / "base" / "heldout.jsonl").read_text().splitlines()) == 3


@pytest.mark.torch
def test_a_training_that_runs_out_of_memory_says_what_to_lower(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    from transformers import LlamaForCausalLM

    def no_device(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(LlamaForCausalLM, "forward", no_device)
    (tmp_path / "plan.yaml").write_text(MEASURED)
    folders = ["--out", str(tmp_path / "run"), "--store", str(tmp_path / "store")]
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(tmp_path / "plan.yaml"), "--only", "sft", *folders])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "sft: failed: stage 'sft': out of memory on cpu; lower per_device_train_batch_size" in said
