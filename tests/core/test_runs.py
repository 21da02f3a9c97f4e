"""However a run ends, it leaves a run folder and a report that say why, and it writes over nothing else."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from measured_plan import MEASURED

from harness import cli
from harness.runlog import LOCK, RunLog

PLAN = """\
name: unread
base: {type: tiny}
data: {mine: {source: preferences, path: broken.jsonl}}
stages: {sft: {aligner: sft, init: base, data: mine}}
"""


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


def test_another_plans_run_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.jsonl").write_text("{")
    for name, status in (("unread", 1), ("unread", 1), ("other", 2)):
        (tmp_path / "plan.yaml").write_text(PLAN.replace("unread", name))
        with pytest.raises(SystemExit) as ended:
            cli.main(["run", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "run"), "--store", str(tmp_path / "st")])
        assert ended.value.code == status
    assert f"run folder {tmp_path / 'run'}: holds a run of 'unread'; choose another with --out" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["name"] == "unread"
    assert (tmp_path / "run" / "report.html").exists()


def test_a_folder_that_a_run_is_writing_is_left_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "broken.jsonl").write_text("{")
    command = ["run", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "run"), "--store", str(tmp_path / "st")]
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / LOCK):
        with pytest.raises(SystemExit) as ended:
            cli.main(command)
        assert ended.value.code == 2
        assert "another run is writing it; choose another with --out" in capsys.readouterr().err
        assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    assert ended.value.code == 1
    assert not (tmp_path / "run" / LOCK).exists()


def test_the_store_may_lie_in_the_run_folder(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "broken.jsonl").write_text("{")
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(tmp_path / "plan.yaml"), "--out", str(out), "--store", str(out / "kept" / "store")])
    assert ended.value.code == 1
    assert (out / "report.html").exists()


def test_a_run_folder_without_space_is_left_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "broken.jsonl").write_text("{")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "run"), "--store", str(tmp_path / "store")])
    assert ended.value.code == 2
    assert "No space left on device; choose another with --out" in capsys.readouterr().err
    assert not list((tmp_path / "run").iterdir())


def test_a_run_of_one_stage_on_one_thread_is_said_in_the_singular(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.yaml").write_text(f"device: cpu\nthreads: 1\n{PLAN}")
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(SystemExit):
        cli.main(["run", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "run"), "--store", str(tmp_path / "store")])
    said = capsys.readouterr().err
    assert "unread: 1 stage on cpu" in said
    assert "1 thread → " in said


@pytest.mark.torch
def test_a_bug_keeps_its_traceback_and_the_run_is_finished(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch")

    def bug(*_: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("harness.stages.write_model_card", bug)
    (tmp_path / "plan.yaml").write_text(MEASURED)
    out = tmp_path / "run"
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["run", str(tmp_path / "plan.yaml"), "--out", str(out), "--store", str(tmp_path / "store")])
    run = json.loads((out / "run.json").read_text())
    assert (run["status"], run["error"]) == ("failed", "ValueError: a bug")
    assert (run["stages"]["sft"]["status"], run["stages"]["sft"]["reason"]) == ("failed", "ValueError: a bug")
    assert "ValueError: a bug" in (out / "report.html").read_text()


@pytest.mark.torch
def test_a_bug_of_an_aligner_costs_its_stage_and_what_builds_on_it_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")

    def bug(*_: Any) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr("harness_plugins.aligners.dpo.DPO.run", bug)
    stages = (
        "  dpo: {aligner: dpo, init: base, data: toy.train}\n  more: {aligner: sft, init: dpo, data: toy.train}\nevaluate:"
    )
    plan = MEASURED.replace("evaluate:", stages).replace("[sft]", "[dpo, more, sft]")
    (tmp_path / "plan.yaml").write_text(plan.replace("  sft:", "  last:").replace(", sft]", ", last]"))
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(tmp_path / "plan.yaml"), "--out", str(out), "--store", str(tmp_path / "store")])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "Traceback (most recent call last):" in said
    told = "dpo: failed: stage 'dpo': ValueError: no such thing; a bug, whose traceback was shown\n"
    assert said.index('raise ValueError("no such thing")') < said.index(told)
    assert "more: skipped: it builds on 'dpo', which did not finish\n" in said
    run = json.loads((out / "run.json").read_text())
    assert {name: stage["status"] for name, stage in run["stages"].items()} == {
        "base": "done",
        "dpo": "failed",
        "more": "skipped",
        "last": "done",
    }
    measured = {each["model"] for each in json.loads((out / "metrics.json").read_text())["estimates"]}
    assert measured == {"base", "last"}
    assert (out / "report.html").exists()


@pytest.mark.torch
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
@pytest.mark.parametrize(
    ("step", "says", "ends"),
    [
        ("harness.stages.write_model_card", "sft: failed: no space left for {store}; free some", "failed"),
        ("harness.runner.Run._gates", "no space left for {run}; free some, run the same command again", "failed"),
        ("harness.runlog.RunLog._save", "no space left for {run}; free some, run the same command again", "running"),
    ],
)
def test_a_full_disk_is_named_wherever_it_shows(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    step: str,
    says: str,
    ends: str,
) -> None:
    pytest.importorskip("torch")

    save = RunLog._save

    def write(owner: Any, *_: Any) -> None:
        if isinstance(owner, RunLog) and owner._run["status"] == "running":
            save(owner)
        else:
            Path("/dev/full").write_text("one thing too many")

    monkeypatch.setattr(step, write)
    (tmp_path / "plan.yaml").write_text(MEASURED)
    folders = {"run": tmp_path / "run", "store": tmp_path / "store"}
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(tmp_path / "plan.yaml"), "--out", str(folders["run"]), "--store", str(folders["store"])])
    assert ended.value.code == 1
    assert says.format(**folders) in capsys.readouterr().err
    assert json.loads((folders["run"] / "run.json").read_text())["status"] == ends
