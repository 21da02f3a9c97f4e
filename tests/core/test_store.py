"""The store: committed whole or not at all, found again by what a result depends on, and kept for the next try."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StageError, UsageError, out_of_space
from harness.keys import canonical_json, digest
from harness.store import MARKER, Store, Workspace, check_result


def build(text: str) -> object:
    def write(work: Workspace) -> dict[str, str]:
        (work.output / "result.txt").write_text(text)
        return {"note": text}

    return write


def test_a_result_is_built_once_and_found_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.produce({"a": 1}, build("one"))
    again = store.produce({"a": 1}, build("two"))
    assert (first.reused, again.reused) == (False, True)
    assert (again.path / "result.txt").read_text() == "one"
    assert again.about["note"] == "one"
    assert again.path == tmp_path / digest({"a": 1})[:2] / digest({"a": 1})


def test_another_identity_is_another_result(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.produce({"a": 1}, build("one"))
    assert store.produce({"a": 2}, build("two")).reused is False


def test_fresh_replaces_what_is_there(tmp_path: Path) -> None:
    Store(tmp_path).produce({"a": 1}, build("one"))
    store = Store(tmp_path)
    assert (store.produce({"a": 1}, build("two"), fresh=True).path / "result.txt").read_text() == "two"
    assert (store.produce({"a": 1}, build("three")).path / "result.txt").read_text() == "two"


def test_fresh_computes_a_result_once_in_a_run_that_asks_for_it_twice(tmp_path: Path) -> None:
    Store(tmp_path).produce({"a": 1}, build("one"))
    store = Store(tmp_path)
    assert store.produce({"a": 1}, build("two"), fresh=True).reused is False
    again = store.produce({"a": 1}, build("three"), fresh=True)
    assert (again.reused, (again.path / "result.txt").read_text()) == (True, "two")


def test_a_store_of_another_user_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root every folder can be written, so the refusal is the operating system's by proxy."""

    make = Path.mkdir

    def refuse(self: Path, *arguments: Any, **options: Any) -> None:
        if self.name in {"output", "runs"}:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        make(self, *arguments, **options)

    store = Store(tmp_path)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UsageError, match=r"^store .*: Permission denied; choose another with --store$"):
        store.note_run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"^store .*output: Permission denied; choose another with --store$"):
        store.produce({"a": 1}, build("one"))


@pytest.mark.parametrize(("number", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False)])
def test_a_quota_is_a_full_disk_and_a_closed_folder_is_none(number: int, full: bool) -> None:
    assert out_of_space(OSError(number, "what the system says")) is full


def write_text(path: Path) -> None:
    path.write_text("half")


def write_weights(_: Path) -> None:
    # What safetensors says; it replaces a file, so it cannot be had to write to one that is always full.
    raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


def write_state(path: Path) -> None:
    try:
        path.write_text("half")
    except OSError:
        # What torch.save says of a file that does not take all that it is given.
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")  # noqa: B904


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
@pytest.mark.parametrize("write", [write_text, write_weights, write_state])
def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path: Path, write: Callable[[Path], None]) -> None:
    store = Store(tmp_path)

    def fill(work: Workspace) -> None:
        (work.output / "half").write_text("half")
        (work.checkpoints / "step").write_text("3")
        (work.output / "rest").symlink_to("/dev/full")
        write(work.output / "rest")

    with pytest.raises(StageError, match=f"no space left for {tmp_path}; free some, such as by `harness store gc`, or"):
        store.produce({"a": 1}, fill)
    assert [path.name for path in tmp_path.rglob("*") if path.name in ("half", "rest", "step")] == ["step"]


def test_a_failure_commits_nothing_and_keeps_the_checkpoints(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(work: Workspace) -> None:
        (work.output / "half.txt").write_text("half")
        (work.checkpoints / "step").write_text("3")
        raise StageError("no")

    with pytest.raises(StageError, match="no"):
        store.produce({"a": 1}, fail)
    assert store.get(digest({"a": 1})) is None

    def go_on(work: Workspace) -> None:
        assert (work.checkpoints / "step").read_text() == "3"
        assert not list(work.output.iterdir()), "half an output must not be taken for a part of the whole one"

    done = store.produce({"a": 1}, go_on)
    assert {path.name for path in done.path.iterdir()} == {MARKER}
    assert not list(tmp_path.glob("*/.*.partial"))


def test_a_folder_without_its_marker_is_no_result(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.produce({"a": 1}, build("one")).path
    (path / MARKER).unlink()
    assert store.get(digest({"a": 1})) is None
    assert (store.produce({"a": 1}, build("two")).path / "result.txt").read_text() == "two"


def about(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: (path / "result.txt").write_text("on"), "result.txt has 2 bytes, not 3"),
        (lambda path: (path / "result.txt").unlink(), "result.txt is missing"),
        (lambda path: (path / MARKER).unlink(), "artifact.json is missing"),
        (lambda path: (path / MARKER).write_text("{"), "artifact.json cannot be read"),
        (lambda path: (path / MARKER).write_text("[]"), "artifact.json is not that of a result"),
        (lambda path: about(path / MARKER, identity=3), "artifact.json is not that of a result"),
        (lambda path: about(path / MARKER, key="other"), "artifact.json is not that of a result"),
        (lambda path: about(path / MARKER, seconds="long"), "artifact.json is not that of a result"),
        (lambda path: about(path / MARKER, files=[]), "artifact.json is not that of a result"),
    ],
)
def test_a_damaged_result_is_computed_again_and_said_once(
    tmp_path: Path, harm: Callable[[Path], None], reason: str
) -> None:
    said: list[str] = []
    store = Store(tmp_path, said.append)
    path = store.produce({"a": 1}, build("one")).path
    harm(path)
    assert store.get(digest({"a": 1})) is None
    again = store.produce({"a": 1}, build("two"))
    assert (again.reused, (again.path / "result.txt").read_text()) == (False, "two")
    assert store.produce({"a": 1}, build("three")).reused
    assert said == [f"store: {path} is damaged ({reason}); computing it again"]


def test_a_result_of_an_earlier_version_has_no_sizes_and_is_accepted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.produce({"a": 1}, build("one")).path / MARKER
    old = json.loads(path.read_text())
    assert old.pop("files") == {"result.txt": [3, hashlib.sha256(b"one").hexdigest()]}
    path.write_text(json.dumps(old))
    assert store.produce({"a": 1}, build("two")).reused


def test_content_that_sizes_do_not_show_is_found_when_it_is_looked_for(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.produce({"a": 1}, build("one")).path
    (path / "result.txt").write_text("two")
    assert store.altered() is None, "what was computed now is not looked into"
    assert store.produce({"a": 1}, build("three")).reused
    assert store.altered() == f"{path / 'result.txt'}: is not as it was written"
    (path / "result.txt").write_text("one")
    assert store.altered() is None


def test_a_command_that_only_reads_is_told_of_a_damaged_result(tmp_path: Path) -> None:
    path = Store(tmp_path).produce({"a": 1}, build("one")).path
    (path / "result.txt").unlink()
    with pytest.raises(UsageError, match=r"is damaged \(result\.txt is missing\); run the plan again"):
        check_result(path)
    (path / MARKER).unlink()
    check_result(path)  # a model folder from elsewhere has no artifact.json


def test_looking_into_a_store_writes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.get("0" * 64) is None
    assert not (tmp_path / "store").exists()
    (tmp_path / "store").write_text("in the way")
    with pytest.raises(UsageError, match="choose another with --store"):
        store.prepare()


def test_keys_do_not_depend_on_the_order_of_names_and_refuse_nan() -> None:
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert canonical_json({"b": "é", "a": 1}) == '{"a":1,"b":"\\u00e9"}'
    with pytest.raises(ValueError, match="Out of range"):
        digest({"a": float("nan")})
