"""Counting false alarms: which seeds are run, and what is printed of their verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness_benchmarks.health import main, seeds, table

from harness.records import HealthVerdict

PLAN = """\
name: healthy
base: {type: tiny, hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 8, vocab_size: 300}
device: cpu
threads: 1
data: {toy: {source: toy, pairs: 24}}
stages: {sft: {aligner: sft, init: base, data: toy, max_steps: 1, per_device_train_batch_size: 2}}
"""


def verdict(rule: str, level: str = "warning", step: int | None = 5) -> HealthVerdict:
    return HealthVerdict(
        stage="ppo", rule=rule, level=level, step=step, value=1.0, threshold="", text=f"saw {rule}", advice=""
    )


def test_seeds_are_ranges_and_numbers() -> None:
    assert seeds("11-13,20") == [11, 12, 13, 20]
    assert seeds("7") == [7]


def test_warnings_are_counted_by_rule_and_by_run_and_notes_are_not() -> None:
    """One run of four with a warning: Wilson's interval from 4.6 to 69.9 %."""
    lines = list(table({11: [verdict("kl"), verdict("entropy", step=None)], 12: [], 13: [verdict("x", "note")], 14: []}))
    assert "| 11 | ppo | kl | warning | 5 | saw kl |" in lines
    assert "| 11 | ppo | entropy | warning | evaluation | saw entropy |" in lines
    assert "| 12 | | | none | | |" in lines
    assert "ppo kl: 1 of 4 runs" in lines
    assert not [line for line in lines if line.startswith("ppo x:")]
    assert lines[-1] == "runs with a warning: 1 of 4, 95 % interval 5% to 70% (Wilson)"


@pytest.mark.torch
def test_each_seed_is_a_run_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN, encoding="utf-8")
    arguments = ["--seeds", "5", "--plan", str(plan), "--out", str(tmp_path / "runs"), "--store", str(tmp_path / "store")]
    assert main(arguments) == 0
    assert "runs with a warning: 0 of 1" in capsys.readouterr().out
    assert (tmp_path / "runs" / "5" / "report.html").exists()
    assert main([*arguments, "--set", "data.toy.pairs=-1"]) == 1
