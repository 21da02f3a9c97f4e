"""What is in a store, which runs use it, and what can go."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UsageError
from .rundir import DAMAGED, MISREAD, RunFolder
from .store import Store

RECENT = 3600.0
"""A run that is going on notes a result a moment after it is there; what is younger than these seconds may be its own."""


@dataclass(frozen=True)
class Item:
    """A result, or unfinished work: a training that was interrupted goes on from its checkpoints.

    `what` is its name in the newest run that uses it, else what its identity says of it. `uses` are the runs, newest first;
    nothing tells which run unfinished work is of. `changed` is in seconds since the epoch.
    """

    key: str
    path: Path
    what: str
    bytes: int
    changed: float
    uses: tuple[Path, ...] = ()
    finished: bool = True


def run_folders(roots: Iterable[Path]) -> list[RunFolder]:
    """The run folders that are these folders, or up to two levels below them, oldest first, each by the first name it has."""
    found: dict[Path, Path] = {}
    for root in roots:
        for depth in ("", "*/", "*/*/"):
            for path in root.glob(f"{depth}run.json"):
                found.setdefault(path.resolve(), path.parent)
    return [RunFolder(path) for path in sorted(found.values(), key=lambda path: (path / "run.json").stat().st_mtime_ns)]


def inventory(store: Store, runs: Sequence[RunFolder]) -> list[Item]:
    """Everything in a store, largest first. Raises UsageError for a run folder that is damaged: what it uses is not known."""
    uses: dict[str, dict[Path, str]] = {}
    for run in runs:
        for name, key in _used(run):
            uses.setdefault(key, {})[run.path] = name
    items = []
    for path in store.root.glob("??/*"):
        key, _, rest = path.name.removeprefix(".").partition(".")
        used = uses.get(key, {}) if not rest else {}
        what = "unfinished" if rest else [*used.values()][-1] if used else _described(store, key)
        if found := list(_status(path)):
            size = sum(each.st_size for each in found if stat.S_ISREG(each.st_mode))
            changed = max(each.st_mtime for each in found)
            items.append(Item(key, path, what, size, changed, tuple(reversed(used)), finished=not rest))
    return sorted(items, key=lambda item: (-item.bytes, item.key))


def disposable(items: Iterable[Item], unfinished: bool = False) -> list[Item]:
    """What no run uses and is not quite new; unfinished work only where it is asked for."""
    old = time.time() - RECENT
    return [item for item in items if not item.uses and item.changed < old and (unfinished or item.finished)]


def remove(store: Store, item: Item) -> bool:
    """Remove an item, at once for whoever looks; False for one that a run is computing, or has finished since."""
    with store.held(item.key) as held:
        if there := held and item.path.exists():
            going = item.path.with_name(f".{item.key}.old")
            if item.path != going:
                shutil.rmtree(going, ignore_errors=True)
                item.path.rename(going)
            shutil.rmtree(going)
    return there


def _used(run: RunFolder) -> list[tuple[str, str]]:
    """The results that a run made or took from the store, and what stages kept there: their names and their keys."""
    document = run.run()
    try:
        steps = {**document.get("stages", {}), **document.get("evaluation", {})}
        kept = [(f"{name}/{what}", key) for name, step in steps.items() for what, key in step.get("kept", {}).items()]
        return [*((name, step["key"]) for name, step in steps.items() if "key" in step), *kept]
    except MISREAD:
        raise UsageError(f"{run.path / 'run.json'}: not as a run writes it; {DAMAGED}, or remove the folder") from None


def _described(store: Store, key: str) -> str:
    """What a result's own identity says of it."""
    result = store.get(key)
    if result is None:
        return "damaged"
    identity: dict[str, Any] = dict(result.about["identity"])
    component = identity.get("component") if identity.get("what") == "stage" else None
    return str(identity.get("name") or (component or {}).get("name") or identity.get("what"))


def _status(path: Path) -> Iterator[os.stat_result]:
    """What the system says of a folder and of all below it; a run may be at work there, and what goes meanwhile is left out."""
    for folder, _, names in os.walk(path):
        for name in (".", *names):
            with contextlib.suppress(FileNotFoundError):
                yield Path(folder, name).stat()
