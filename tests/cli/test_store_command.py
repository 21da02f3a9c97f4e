"""`harness store`: what it lists, what it removes, and what it refuses."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.store import Store


@pytest.fixture
def home(command: Callable[..., Any]) -> Path:
    """A folder with a store of three results, two hours old, of which a run uses one, and unfinished work."""
    store = Store(Path("runs/.store"))
    keys = {}
    for name, size in (("sft", 4_000_000), ("dpo", 2_000_000), ("ppo", 100_000)):

        def write(work: Any, size: int = size) -> None:
            (work.output / "model.bin").write_bytes(bytes(size))

        keys[name] = store.produce({"what": "stage", "component": {"name": name}}, write).about["key"]

    def fail(work: Any) -> None:
        (work.checkpoints / "step").write_bytes(bytes(700_000))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.produce({"what": "stage"}, fail)
    for path in store.root.rglob("*"):
        os.utime(path, (time.time() - 7200,) * 2)
    folder = Path("runs/plan/1")
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"stages": {"mine": {"key": keys["sft"]}}}))
    return Path.cwd()


def rows(out: str) -> list[tuple[str, str, str]]:
    """Size, name and use of each line but the first."""
    head, *lines = out.splitlines()
    assert head.split() == ["KEY", "SIZE", "WRITTEN", "WHAT", "USED", "BY"]
    found = [line.split() for line in lines]
    return [(" ".join(each[1:3]), each[5], each[6]) for each in found]


@pytest.mark.parametrize("arguments", [(), ("ls",)])
def test_ls_shows_what_is_kept_and_for_whom(command: Callable[..., Any], home: Path, arguments: tuple[str, ...]) -> None:
    outcome = command("store", *arguments)
    assert outcome.status == 0
    assert rows(outcome.out) == [
        ("4 MB", "mine", "runs/plan/1"),
        ("2 MB", "dpo", "-"),
        ("700 kB", "unfinished", "-"),
        ("100 kB", "ppo", "-"),
    ]
    assert outcome.err == "4 items, 6.8 MB, of which no run uses 3 items, 2.8 MB\n"


def test_ls_as_json(command: Callable[..., Any], home: Path) -> None:
    listed = json.loads(command("store", "ls", "--json").out)
    assert [(each["what"], each["uses"], each["finished"]) for each in listed[:3]] == [
        ("mine", ["runs/plan/1"], True),
        ("dpo", [], True),
        ("unfinished", [], False),
    ]
    assert Path(listed[0]["path"]).name == listed[0]["key"]


def test_gc_removes_what_no_run_uses(command: Callable[..., Any], home: Path) -> None:
    before = command("store").out
    planned = command("store", "gc", "--dry-run")
    assert [row[1] for row in rows(planned.out)] == ["dpo", "ppo"]
    assert planned.err.startswith(
        "would remove 2 items, 2.1 MB\nunfinished work stays, 1 item, 700 kB; --unfinished removes it\n"
    )
    assert command("store").out == before
    done = command("store", "gc")
    assert (done.status, done.out) == (0, planned.out)
    assert done.err.startswith("removed 2 items, 2.1 MB\n")
    assert [row[1] for row in rows(command("store").out)] == ["mine", "unfinished"]
    assert command("store", "gc").out == ""
    assert command("store", "gc", "--unfinished").err == "removed 1 item, 700 kB\n"
    assert [row[1] for row in rows(command("store").out)] == ["mine"]


@pytest.fixture
def elsewhere(command: Callable[..., Any], home: Path) -> Path:
    """A run folder outside runs/ that uses `dpo`."""
    key = next(each["key"] for each in json.loads(command("store", "ls", "--json").out) if each["what"] == "dpo")
    Path("elsewhere").mkdir()
    Path("elsewhere/run.json").write_text(json.dumps({"evaluation": {"again": {"key": key}}}))
    return Path("elsewhere")


def test_a_run_elsewhere_counts_where_it_is_named(command: Callable[..., Any], elsewhere: Path) -> None:
    outcome = command("store", "gc", "--dry-run", "--runs", "runs", "--runs", str(elsewhere))
    assert [row[1] for row in rows(outcome.out)] == ["ppo"]


def test_a_folder_without_runs_is_no_place_of_runs(command: Callable[..., Any], elsewhere: Path) -> None:
    outcome = command("store", "gc", "--dry-run", "--runs", "runs", "--runs", "elsewere")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == "--runs elsewere: holds no run; name a run folder, or a folder of them\n"


def test_the_store_knows_where_its_runs_are(command: Callable[..., Any], elsewhere: Path) -> None:
    store = Store(Path("runs/.store"))
    for folder in (elsewhere, Path("runs/plan/1"), Path("gone")):
        store.note_run(folder)
    assert rows(command("store").out)[:2] == [
        ("4 MB", "mine", "runs/plan/1"),  # once, though it is found in two ways
        ("2 MB", "again", str(elsewhere.resolve())),
    ]
    assert [row[1] for row in rows(command("store", "gc").out)] == ["ppo"]


def test_a_note_that_cannot_be_read_keeps_everything(command: Callable[..., Any], home: Path) -> None:
    note = Path("runs/.store/runs/0.json")
    note.parent.mkdir()
    note.write_text("[]")
    outcome = command("store", "gc")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == f"{note}: does not say where a run is; remove it, and name the run with --runs\n"


@pytest.mark.parametrize(
    ("arguments", "content", "text"),
    [
        (("ls", "--store", "none"), "{}", "store none: there is none; give yours with --store"),
        (
            ("gc", "--runs", "none"),
            "{}",
            "--runs none: holds no run; name a run folder, or a folder of them",
        ),
        (("gc",), "{", "runs/plan/1/run.json: not valid JSON"),
        (("gc",), '{"stages": [1]}', "runs/plan/1/run.json: not as a run writes it; the run folder is damaged"),
        (("gc",), '{"stages": {"a": 3}}', "runs/plan/1/run.json: not as a run writes it; the run folder is damaged"),
    ],
)
def test_nothing_is_removed_where_it_is_not_known_what_is_used(
    command: Callable[..., Any], home: Path, arguments: tuple[str, ...], content: str, text: str
) -> None:
    Path("runs/plan/1/run.json").write_text(content)
    kept = sorted(Path("runs/.store").rglob("*"))
    outcome = command("store", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert text in outcome.err
    assert sorted(Path("runs/.store").rglob("*")) == kept
