"""The store: results under the SHA-256 of everything they depend on. What is in it is complete and never changes.

<root>/<2 hex>/<key>/           a committed result; its artifact.json is written last, with size and SHA-256 of every other file
<root>/<2 hex>/.<key>.partial/  work in progress: `output/` becomes the result, `checkpoints/` lets it go on
<root>/locks/<key>.lock         held while a result is computed, so that two runs share the work
<root>/replies/<2 hex>/<key>.json   what a judge was answered, call by call; bought once, and never computed again
<root>/runs/<key>.json          the folder of a run that uses the store, wherever it is
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import StageError, UsageError, out_of_space
from .keys import canonical_json, digest
from .records import write_json

MARKER = "artifact.json"


@dataclass(frozen=True)
class Workspace:
    """Where a result is computed. It survives a kill; the next run finds it as it was left."""

    output: Path
    checkpoints: Path


@dataclass(frozen=True)
class Result:
    """A committed result: its folder, what artifact.json says of it, and whether it was there already."""

    path: Path
    about: Mapping[str, Any]
    reused: bool


class Replies:
    """JSON objects under keys of 64 hex digits, a file each, written whole or not at all. See components.Documents."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.used: dict[str, Mapping[str, Any]] = {}

    def get(self, key: str, /) -> Mapping[str, Any] | None:
        """The object with this key; None if there is none, or it is damaged."""
        path = self._path(key)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(document, dict):
            return None
        self.used[key] = document
        return document

    def __setitem__(self, key: str, document: Mapping[str, Any]) -> None:
        """Keep an object. Raises StageError if the disk is full."""
        path = self._path(key)
        self.used[key] = document
        try:
            write_json(path, document)
        except OSError as error:
            raise StageError(f"{self._root}: {error.strerror}; what was answered so far is kept") from None

    def _path(self, key: str) -> Path:
        if not re.fullmatch("[0-9a-f]{64}", key):
            raise ValueError(f"{key!r} is no key; expected 64 hex digits")
        return self._root / key[:2] / f"{key}.json"


class Store:
    """A folder of results. `say` is told of damaged ones; `reused` are the folders of those that were there."""

    def __init__(self, root: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.root = root
        self.reused: dict[Path, Mapping[str, tuple[int, str]]] = {}
        self._say = say
        self._made: set[str] = set()

    def prepare(self) -> None:
        """Make the folder. Raises UsageError if it cannot be written."""
        locks = self.root / "locks"
        try:
            locks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"store {self.root}: {error.strerror}; choose another with --store") from None
        if not os.access(locks, os.W_OK):
            raise UsageError(f"store {self.root}: cannot be written; choose another with --store")

    def note_run(self, folder: Path) -> None:
        """Remember the folder of a run that uses this store, for `runs`."""
        path = str(folder.resolve())
        try:
            write_json(self.root / "runs" / f"{digest(path)}.json", {"run": path})
        except PermissionError as error:
            raise self._not_ours(error) from None

    def runs(self) -> list[Path]:
        """The folders of the runs that have used this store, moved and removed ones among them. Raises UsageError."""
        folders = []
        for note in sorted((self.root / "runs").glob("*.json")):
            try:
                folders.append(Path(json.loads(note.read_text(encoding="utf-8"))["run"]))
            except (OSError, ValueError, LookupError, TypeError):
                raise UsageError(f"{note}: does not say where a run is; remove it, and name the run with --runs") from None
        return folders

    def folder(self, key: str) -> Path:
        """Where the result with this key is, or would be."""
        return self.root / key[:2] / key

    def replies(self) -> Replies:
        """What judges were answered; the object notes which of it is used."""
        return Replies(self.root / "replies")

    def get(self, key: str) -> Result | None:
        """A committed result; None if there is none, or it is damaged."""
        folder = self.folder(key)
        try:
            about = _read_about(folder)
        except _Damaged:
            return None
        self.reused[folder] = about.get("files", {})
        return Result(folder, about, reused=True)

    def altered(self) -> str | None:
        """The first file among the results that were reused which is not as it was committed, in words; None if all are.

        Reads all of them: where something went wrong, and their sizes were right.
        """
        for folder, files in self.reused.items():
            for name, (_, sha256) in files.items():
                path = folder / name
                if not path.exists() or _sha256(path) != sha256:
                    return f"{path}: is not as it was written"
        return None

    def produce(
        self,
        identity: Mapping[str, Any],
        build: Callable[[Workspace], Mapping[str, Any] | None],
        *,
        fresh: bool = False,
        waiting: Callable[[], None] = lambda: None,
    ) -> Result:
        """The result that `identity` describes: found, or built and committed.

        `build` fills `workspace.output` and may return what artifact.json shall say besides the identity. If it raises, nothing
        is committed and the workspace stays for the next try. `fresh` computes it again even if it is there, once; a damaged one
        is computed again anyway. `waiting` is called once if another run is computing it.
        """
        key = digest(identity)
        fresh = fresh and key not in self._made
        if not fresh and (found := self.get(key)):
            return found
        self.prepare()
        with self._lock(key, waiting):
            if not fresh and (found := self.get(key)):
                return found
            if not fresh and (reason := damage(self.folder(key))):
                self._say(f"store: {self.folder(key)} is damaged ({reason}); computing it again")
            partial = self.root / key[:2] / f".{key}.partial"
            if fresh:
                shutil.rmtree(partial, ignore_errors=True)
            work = Workspace(partial / "output", partial / "checkpoints")
            shutil.rmtree(work.output, ignore_errors=True)
            try:
                work.output.mkdir(parents=True)
                work.checkpoints.mkdir(exist_ok=True)
                about = {"key": key, "identity": json.loads(canonical_json(identity)), **(build(work) or {})}
                write_json(work.output / MARKER, {**about, "files": _files(work.output), "committed": time.time()})
                self._commit(key, work.output)
            except Exception as error:
                if isinstance(error, PermissionError) and Path(str(error.filename)).is_relative_to(self.root):
                    raise self._not_ours(error) from None
                if not out_of_space(error):
                    raise
                shutil.rmtree(work.output, ignore_errors=True)  # no later try reads it
                raise StageError(
                    f"no space left for {self.root}; free some, such as by `harness store gc`, or choose another with --store"
                ) from None
            shutil.rmtree(partial, ignore_errors=True)
            self._made.add(key)
        return Result(self.folder(key), about, reused=False)

    def _not_ours(self, error: PermissionError) -> UsageError:
        return UsageError(f"store {self.root}: {error.filename}: {error.strerror}; choose another with --store")

    @contextlib.contextmanager
    def held(self, key: str) -> Iterator[bool]:
        """Keep runs from computing the result with this key; false where one is at it, and nothing is kept from it."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.root / "locks" / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _commit(self, key: str, output: Path) -> None:
        folder = self.folder(key)
        if folder.exists():
            old = folder.with_name(f".{key}.old")
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
            output.rename(folder)
            shutil.rmtree(old)
        else:
            output.rename(folder)

    def _lock(self, key: str, waiting: Callable[[], None]) -> AbstractContextManager[Any]:
        from filelock import FileLock, Timeout

        lock = FileLock(self.root / "locks" / f"{key}.lock")
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            waiting()
            return lock.acquire(poll_interval=0.2)


class _Damaged(Exception):
    """There is no such result, or what is left of it is not what was committed; the text says what."""


def damage(folder: Path) -> str | None:
    """What is wrong with a committed result, as far as the sizes of its files tell; None if nothing is, or there is none."""
    try:
        _read_about(folder)
    except _Damaged as damaged:
        return str(damaged) if folder.exists() else None
    return None


def check_result(folder: Path) -> None:
    """Raises UsageError for a result that is damaged; a folder that is none, such as a model from elsewhere, is let pass."""
    if (folder / MARKER).exists() and (reason := damage(folder)):
        raise UsageError(f"{folder}: is damaged ({reason}); run the plan again, and it computes it again")


def _files(folder: Path) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of every file of a result."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, _sha256(path)) for path in paths}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_about(folder: Path) -> dict[str, Any]:
    """What artifact.json says of a result. Raises _Damaged if it is no longer as it was committed."""
    try:
        about = json.loads((folder / MARKER).read_bytes())
    except FileNotFoundError:
        raise _Damaged(f"{MARKER} is missing") from None
    except (OSError, ValueError):
        raise _Damaged(f"{MARKER} cannot be read") from None
    # Results of earlier versions do not have `files`.
    as_written = (
        isinstance(about, dict)
        and about.get("key") == folder.name
        and isinstance(about.get("identity"), dict)
        and isinstance(about.get("seconds", 0), int | float)
        and isinstance(about.get("files", {}), dict)
        and all(isinstance(each, list) and len(each) == 2 for each in about.get("files", {}).values())
    )
    if not as_written:
        raise _Damaged(f"{MARKER} is not that of a result")
    for name, (size, _) in about.get("files", {}).items():
        try:
            found = (folder / name).stat().st_size
        except OSError:
            raise _Damaged(f"{name} is missing") from None
        if found != size:
            raise _Damaged(f"{name} has {found:,} bytes, not {size:,}")
    return dict(about)
