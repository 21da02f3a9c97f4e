"""Runs that end before anything is trained still leave a run folder and a report that say why."""

from __future__ import annotations

import errno
import functools
import json
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from harness import cli
from harness.runlog import LOCK, RunLog
from harness.stages import Stages

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
  sft: {aligner: sft, init: base, data: toy.train, max_steps: 1, per_device_train_batch_size: 4}
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


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan, and a store that has all of it."""
    pytest.importorskip("torch")
    folder, before = tmp_path_factory.mktemp("measured"), signal.getsignal(signal.SIGTERM)
    (folder / "plan.yaml").write_text(MEASURED)
    arguments = ["run", str(folder / "plan.yaml"), "--out", str(folder / "run"), "--store", str(folder / "store")]
    assert cli.cli.main(arguments, standalone_mode=False) == 0
    signal.signal(signal.SIGTERM, before)
    return folder


def results(store: Path, name: str) -> list[Path]:
    """The files of a name in a store."""
    found = sorted(store.glob(f"*/*/{name}"))
    assert found
    return found


def rerun(measured: Path, tmp_path: Path, *arguments: str) -> int:
    """The status of another run of the plan, with the store in tmp_path."""
    folders = ["--out", str(tmp_path / "run"), "--store", str(tmp_path / "store")]
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(measured / "plan.yaml"), *folders, *arguments])
    return int(ended.value.code or 0)


@pytest.mark.torch
def test_results_with_files_cut_or_gone_are_computed_again(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(measured / "store", tmp_path / "store")
    (model,) = [path for path in results(tmp_path / "store", "model.safetensors") if (path.parent / "train.jsonl").exists()]
    model.write_bytes(model.read_bytes()[:-8])
    records = results(tmp_path / "store", "records.jsonl")
    for path in records:
        path.unlink()
    assert rerun(measured, tmp_path) == 0
    said = capsys.readouterr().err
    assert said.count(f"store: {model.parent} is damaged (model.safetensors has ") == 1
    for path in records:
        assert said.count(f"store: {path.parent} is damaged (records.jsonl is missing); computing it again") == 1
    assert rerun(measured, tmp_path) == 0
    assert "computed nothing" in capsys.readouterr().err


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl", b"{}"),
        ("records.jsonl", b'{"a": 1}'),
        ("metrics.json", b"{"),
        ("metrics.json", b'{"estimates": 3, "skipped": []}'),
    ],
)
def test_damage_that_sizes_do_not_show_is_named_with_what_to_do(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    shutil.copytree(measured / "store", tmp_path / "store")
    paths = results(tmp_path / "store", name)
    for path in paths:
        path.write_bytes(content.ljust(path.stat().st_size - 1) + b"\n")
    assert rerun(measured, tmp_path) == 1
    said = capsys.readouterr().err
    says = "is not as it was written; the store is damaged there, --fresh computes it again"
    assert any(f"{path}: {says}" in said for path in paths)
    assert rerun(measured, tmp_path, "--fresh") == 0


@pytest.mark.torch
def test_an_old_result_without_its_records_is_named(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(measured / "store", tmp_path / "store")
    for path in results(tmp_path / "store", "artifact.json"):
        path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "files"}))
    records = results(tmp_path / "store", "records.jsonl")
    for path in records:
        path.unlink()
    assert rerun(measured, tmp_path) == 1
    said = capsys.readouterr().err
    assert any(f"{path}: is missing; the store is damaged there, --fresh computes it again" in said for path in records)


@pytest.mark.torch
def test_a_damaged_model_is_named_and_not_the_bug_that_it_looks_like(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(measured / "store", tmp_path / "store")
    (model,) = [
        path for path in results(tmp_path / "store", "model.safetensors") if not (path.parent / "train.jsonl").exists()
    ]
    model.write_bytes(bytes(model.stat().st_size))

    def cannot_open(*_: Any) -> None:
        raise RuntimeError("header too large")

    monkeypatch.setattr("harness.stages.Stages._train", cannot_open)
    assert rerun(measured, tmp_path, "--set", "stages.sft.learning_rate=0.001", "--only", "sft") == 1
    said = capsys.readouterr().err
    assert f"sft: failed: {model}: is not as it was written; the store is damaged there, --fresh computes it again" in said


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


def test_a_warning_is_noted_and_told_once() -> None:
    told: list[str] = []
    log = SimpleNamespace(_warnings=[], event=lambda _, text: told.append(text))
    noted = [RunLog.warn(log, text) for text in ("one", "two", "one")]  # type: ignore[arg-type]
    assert (noted, told) == ([True, True, False], ["one", "two"])


@pytest.mark.parametrize(("base", "told"), [("models/mine", True), (None, False)])
def test_a_base_that_was_given_a_template_is_told_unless_it_is_the_harnesss_own(
    monkeypatch: pytest.MonkeyPatch, base: str | None, told: bool
) -> None:
    warnings: list[str] = []
    result = SimpleNamespace(about={"key": "k", "template_added": True}, path=Path())
    run = SimpleNamespace(
        graph=SimpleNamespace(plan=SimpleNamespace(base=base)),
        data=SimpleNamespace(texts=list),
        produce=lambda *_: result,
        warn=warnings.append,
        artifacts={},
    )
    monkeypatch.setattr("harness.stages.base_identity", lambda *_: {})
    Stages(run)._base()  # type: ignore[arg-type]
    assert [text.partition(":")[0] for text in warnings] == (["base models/mine"] if told else [])
    assert run.artifacts["base"].key == "k"


def test_what_a_stage_notes_is_told_and_kept_once() -> None:
    told: list[str] = []
    kept: list[tuple[str, dict[str, str]]] = []
    log = SimpleNamespace(_notes=set(), event=lambda kind, **fields: kept.append((kind, fields)))
    log.note = partial(RunLog.note, log)
    stages = Stages(SimpleNamespace(graph=None, progress=SimpleNamespace(say=told.append), log=log))  # type: ignore[arg-type]
    for stage, text in (
        ("ppo", "its judge asks too much"),
        ("ppo", "its judge asks too much"),
        ("dpo", "cut"),
        ("ppo", "cut"),
    ):
        stages._note(stage, text)
    assert told == ["ppo: its judge asks too much", "dpo: cut", "ppo: cut"]
    assert [(kind, *fields.values()) for kind, fields in kept] == [("note", *each.split(": ")) for each in told]
    assert list(kept[0][1]) == ["stage", "text"]
