"""Runs that end before anything is trained still leave a run folder and a report that say why."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import cli

PLAN = """\
name: unread
base: {type: tiny}
data: {mine: {source: preferences, path: missing.jsonl}}
stages: {sft: {aligner: sft, init: base, data: mine}}
"""


@pytest.fixture(autouse=True)
def _terminate_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_data_that_cannot_be_read_end_the_run_with_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "run"), "--store", str(tmp_path / "store")])
    assert ended.value.code == 1
    reason = "data.mine: missing.jsonl: no such file"
    assert reason in capsys.readouterr().err
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["status"] == "failed"
    assert reason in run["error"]
    assert reason in (tmp_path / "run" / "report.html").read_text()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(tmp_path / "plan.yaml"), "--out", str(tmp_path), "--store", str(tmp_path / "store")])
    assert ended.value.code == 2
    assert "holds something else than a run" in capsys.readouterr().err
    assert (tmp_path / "plan.yaml").read_text() == PLAN
