"""What is kept of a judge: final records under their key, others under what they are; and its replies, one by one."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StageError
from harness.evaluation.keep import Kept, Records, keep
from harness.records import Score, write_text
from harness.store import Replies, Store


class Run:
    """The part of a run that keeps records."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "store")
        self.folder = folder / "run"

    def produce(self, name: str, identity: Mapping[str, Any], build: Any) -> Any:
        return self.store.produce(identity, lambda work: {"seconds": 1.0, **(build(work) or {})})

    def copy(self, source: Path, *parts: str) -> None:
        target = self.folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())


def score(value: float | None) -> Score:
    return Score(prompt_id="a", suite="s", judge="j", model="m", score=value, reason=None if value else "it was down")


def kept(run: Run, records: Iterable[Score], replies: Replies | None = None) -> Kept[Score]:
    return keep(run, ("scores", "j", "m", "s"), {"samples": "1"}, lambda: records, Score, replies)  # type: ignore[arg-type]


def test_final_records_are_built_once(tmp_path: Path) -> None:
    run = Run(tmp_path)
    first = kept(run, Records([score(1.0)]))
    again = kept(run, Records([score(2.0)]))
    assert again.key == first.key
    assert [each.score for each in again.records] == [1.0]


def test_records_that_are_not_final_are_there_for_this_run_and_built_anew_by_the_next(tmp_path: Path) -> None:
    run = Run(tmp_path)
    first = kept(run, Records([score(None)], final=False))
    assert [each.reason for each in first.records] == ["it was down"]
    assert "it was down" in (tmp_path / "run/scores/j/m/s.jsonl").read_text()
    same = kept(run, Records([score(None)], final=False))
    assert same.key == first.key, "what is computed from equal records is found again"
    mended = kept(run, Records([score(3.0)]))
    assert mended.key != first.key
    assert [each.score for each in kept(run, Records([score(None)], final=False)).records] == [3.0]


def test_the_replies_that_were_used_lie_beside_the_records(tmp_path: Path) -> None:
    run, key = Run(tmp_path), "ab" * 32
    replies = run.store.replies()
    replies[key] = {"value": 1.0}
    kept(run, Records([score(1.0)]), replies)
    assert (tmp_path / "run/replies/j/m/s.jsonl").read_text() == f'{{"key": "{key}", "value": 1.0}}\n'
    (tmp_path / "run/replies/j/m/s.jsonl").unlink()
    kept(run, Records([score(1.0)]), run.store.replies())
    assert (tmp_path / "run/replies/j/m/s.jsonl").exists(), "also when the records were there already"


def test_replies_are_one_file_each_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    replies, key = Store(tmp_path).replies(), "0f" * 32
    assert replies.get(key) is None
    replies[key] = {"text": "⏎", "value": 0.5}
    assert Store(tmp_path).replies().get(key) == {"text": "⏎", "value": 0.5}
    (path,) = (tmp_path / "replies").rglob("*.json")
    assert path == tmp_path / "replies" / "0f" / f"{key}.json"
    path.write_text('{"text"')
    assert replies.get(key) is None
    with pytest.raises(ValueError, match="is no key"):
        replies.get("../../secret")


def test_a_store_that_is_full_says_so(tmp_path: Path) -> None:
    replies = Store(tmp_path).replies()
    (tmp_path / "replies").write_text("in the way")
    with pytest.raises(StageError, match="what was answered so far is kept"):
        replies["0f" * 32] = {}


def test_a_file_that_does_not_fit_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "plan.yaml", "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "plan.yaml", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]
    assert (tmp_path / "plan.yaml").read_text() == "old"
