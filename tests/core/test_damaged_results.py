"""Results of the store that are not as they were written: computed again, or named with what to do."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from measured_plan import MEASURED

from harness import cli


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
