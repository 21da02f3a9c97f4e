"""A run on a device that has too little memory: smaller batches where they help, and what to lower where not."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from measured_plan import MEASURED

from harness import cli


@pytest.mark.torch
def test_a_run_that_ran_out_of_memory_says_so_and_has_it_in_the_lock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    from transformers import LlamaForCausalLM

    whole = LlamaForCausalLM.forward

    @functools.wraps(whole)
    def small_device(model: Any, *args: Any, **kwargs: Any) -> Any:
        if len(kwargs["input_ids"]) > 2:
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
    warnings = json.loads((out / "run.json").read_text())["warnings"]
    assert lock["token_budget"]["last"] in warnings
    assert "the token budget falls from 4096 to" in warnings[0]  # of the gradient's four rows
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

    (tmp_path / "plan.yaml").write_text(MEASURED)
    folders = ["--out", str(tmp_path / "run"), "--store", str(tmp_path / "store")]
    for where, text in (
        # A gradient is cut down to single rows first; the optimizer's state is not of any row.
        ((LlamaForCausalLM, "forward"), "sft: failed: out of memory on cpu with a single row of "),
        ((torch.optim.AdamW, "step"), "sft: failed: stage 'sft': out of memory on cpu; lower per_device_train_batch_size"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(*where, functools.wraps(getattr(*where))(no_device))
            with pytest.raises(SystemExit) as ended:
                cli.main(["run", str(tmp_path / "plan.yaml"), "--only", "sft", *folders])
        assert ended.value.code == 1
        assert text in capsys.readouterr().err
