"""What is in a store, for whom, and what can go: by the command, on stores and run folders as runs leave them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.inventory import RECENT, Item, disposable, inventory, remove, run_folders
from harness.keys import digest
from harness.store import Store, Workspace

SIZES = {"sft": 3000, "dpo": 2000, "samples": 10}
IDENTITIES: dict[str, dict[str, Any]] = {
    "sft": {"what": "stage", "component": {"kind": "aligner", "name": "sft"}},
    "dpo": {"what": "stage", "component": {"kind": "aligner", "name": "dpo"}},
    "samples": {"what": "samples", "name": "samples/dpo/held"},
}
KEYS = {name: digest(identity) for name, identity in IDENTITIES.items()}


def older(path: Path, seconds: float) -> None:
    """Make all files below a folder so much older."""
    for each in (path, *path.rglob("*")):
        os.utime(each, (time.time() - seconds,) * 2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with two models and the samples of one, and a stage that was interrupted, all two hours old."""
    made = Store(tmp_path / "runs" / ".store")

    def write(size: int) -> Callable[[Workspace], None]:
        return lambda work: (work.output / "data.bin").write_bytes(bytes(size)) and None

    for name, identity in IDENTITIES.items():
        made.produce(identity, write(SIZES[name]))

    def interrupted(work: Workspace) -> None:
        (work.checkpoints / "step").write_bytes(bytes(500))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.produce({"what": "stage", "component": {"name": "ppo"}}, interrupted)
    made.replies()["0f" * 32] = {"said": "A"}
    older(made.root, 2 * RECENT)
    return made


def run(folder: Path, stages: dict[str, str], evaluation: dict[str, str], age: float) -> None:
    """A run folder that names these keys, so old."""
    folder.mkdir(parents=True)
    steps = [{name: {"key": key} for name, key in each.items()} for each in (stages, evaluation)]
    document = {"stages": {**steps[0], "ppo": {"status": "failed"}}, "evaluation": steps[1]}
    (folder / "run.json").write_text(json.dumps(document))
    older(folder, age)


@pytest.fixture
def runs(tmp_path: Path, store: Store) -> Path:
    run(tmp_path / "runs" / "a" / "new", {"mine": KEYS["sft"]}, {"samples/x/held": KEYS["samples"]}, 10)
    run(tmp_path / "runs" / "a" / "old", {"its": KEYS["sft"]}, {}, 20)
    return tmp_path / "runs"


def test_every_item_has_its_size_its_name_and_its_runs_newest_first(store: Store, runs: Path) -> None:
    items = inventory(store, run_folders([runs]))
    assert [item.what for item in items] == ["mine", "dpo", "unfinished", "samples/x/held"], "the largest is first"
    sft, dpo, unfinished, samples = items
    assert (sft.key, sft.uses) == (KEYS["sft"], (runs / "a" / "new", runs / "a" / "old"))
    assert sft.bytes == sum(path.stat().st_size for path in sft.path.iterdir()) > SIZES["sft"]
    assert sft.changed == pytest.approx(time.time() - 2 * RECENT, abs=60)
    assert (dpo.what, dpo.uses) == ("dpo", ())
    assert samples.uses == (runs / "a" / "new",)
    assert (unfinished.bytes, unfinished.finished, unfinished.uses) == (500, False, ())


def test_run_folders_are_found_below_a_folder_and_by_themselves(runs: Path) -> None:
    for roots in ([runs], [runs / "a"], [runs / "a" / "new", runs / "a" / "old"], [runs, runs / "a" / "old"]):
        assert [each.path.name for each in run_folders(roots)] == ["old", "new"]
    assert run_folders([runs / "none"]) == []


def test_only_what_is_old_and_of_no_use_can_go(store: Store, runs: Path) -> None:
    items = inventory(store, run_folders([runs]))
    assert [item.what for item in disposable(items)] == ["dpo"]
    assert [item.what for item in disposable(items, unfinished=True)] == ["dpo", "unfinished"]
    older(store.folder(KEYS["dpo"]), RECENT / 2)
    assert disposable(inventory(store, run_folders([runs]))) == []


def test_unfinished_work_is_of_no_run_though_its_result_is(store: Store, runs: Path) -> None:
    """As `--fresh` leaves it when it is interrupted: the old result stays, and what was to replace it is half done."""
    partial = store.folder(KEYS["sft"]).with_name(f".{KEYS['sft']}.partial")
    partial.mkdir()
    older(partial, 2 * RECENT)
    found = [item for item in inventory(store, run_folders([runs])) if item.key == KEYS["sft"]]
    assert [(item.what, len(item.uses), item.finished) for item in found] == [("mine", 2, True), ("unfinished", 0, False)]


def test_what_a_run_computes_is_not_removed(store: Store) -> None:
    item = next(item for item in inventory(store, []) if not item.finished)

    def meanwhile(work: Workspace) -> None:
        assert not remove(store, item)
        (work.output / "data.bin").write_bytes(b"whole")

    store.produce({"what": "stage", "component": {"name": "ppo"}}, meanwhile)
    assert (store.folder(item.key) / "data.bin").read_bytes() == b"whole"


def test_what_an_interrupted_removal_left_is_unfinished_and_goes(store: Store) -> None:
    folder = store.folder(KEYS["dpo"])
    folder.rename(folder.with_name(f".{folder.name}.old"))
    older(store.root, 2 * RECENT)
    (left,) = [item for item in disposable(inventory(store, []), unfinished=True) if item.key == KEYS["dpo"]]
    assert (left.what, left.finished) == ("unfinished", False)
    assert remove(store, left)
    assert not left.path.exists()


def test_what_goes_while_it_is_looked_at_is_left_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training replaces its checkpoints all the time."""
    walk = os.walk

    def meanwhile(path: Path) -> Any:
        for folder, folders, names in walk(path):
            yield folder, folders, [*names, "gone"]

    before = inventory(store, [])
    monkeypatch.setattr("os.walk", meanwhile)
    assert inventory(store, []) == before


def test_work_that_was_finished_since_is_let_be(store: Store) -> None:
    left = next(item for item in inventory(store, []) if not item.finished)
    store.produce({"what": "stage", "component": {"name": "ppo"}}, lambda _: None)
    assert not remove(store, left)
    assert store.get(left.key)


def test_a_damaged_result_is_named_so(store: Store) -> None:
    (store.folder(KEYS["dpo"]) / "artifact.json").write_text("{")
    assert {item.what for item in inventory(store, [])} == {"sft", "damaged", "unfinished", "samples/dpo/held"}


def item(store: Store, name: str) -> Item:
    return next(each for each in inventory(store, []) if each.key == KEYS[name])


def test_what_was_removed_is_computed_again(store: Store) -> None:
    assert remove(store, item(store, "dpo"))
    assert not list(store.root.glob(f"??/*{KEYS['dpo']}*"))
    assert store.produce(IDENTITIES["dpo"], lambda _: None).reused is False
    assert store.produce(IDENTITIES["sft"], lambda _: None).reused is True


def test_what_a_stage_kept_in_the_store_is_used_by_its_run(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "kept"
    folder.mkdir()
    stage = {"key": KEYS["dpo"], "kept": {"reference log-probabilities": KEYS["samples"]}}
    (folder / "run.json").write_text(json.dumps({"stages": {"dpo": stage}}))
    found = {item.key: item for item in inventory(store, run_folders([folder]))}
    assert found[KEYS["samples"]].uses == (folder,)
    assert found[KEYS["samples"]].what == "dpo/reference log-probabilities"
    assert KEYS["samples"] not in {item.key for item in disposable(found.values())}
