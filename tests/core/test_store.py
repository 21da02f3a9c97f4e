"""The store: committed whole or not at all, found again by what a result depends on, and kept for the next try."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import StageError
from harness.keys import canonical_json, digest
from harness.store import MARKER, Store, Workspace


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
    store = Store(tmp_path)
    store.produce({"a": 1}, build("one"))
    assert (store.produce({"a": 1}, build("two"), fresh=True).path / "result.txt").read_text() == "two"
    assert (store.produce({"a": 1}, build("three")).path / "result.txt").read_text() == "two"


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


def test_keys_do_not_depend_on_the_order_of_names_and_refuse_nan() -> None:
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert canonical_json({"b": "é", "a": 1}) == '{"a":1,"b":"\\u00e9"}'
    with pytest.raises(ValueError, match="Out of range"):
        digest({"a": float("nan")})
