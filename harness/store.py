"""The store: results under the SHA-256 of everything they depend on. What is in it is complete and never changes.

<root>/<2 hex>/<key>/           a committed result; its artifact.json is written last
<root>/<2 hex>/.<key>.partial/  work in progress: `output/` becomes the result, `checkpoints/` lets it go on
<root>/locks/<key>.lock         held while a result is computed, so that two runs share the work
<root>/replies/<2 hex>/<key>.json   what a judge was answered, call by call; bought once, and never computed again
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import StageError, UsageError
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
    """A folder of results. Raises UsageError if it cannot be written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            (root / "locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"store {root}: {error.strerror}; choose another with --store") from None

    def folder(self, key: str) -> Path:
        """Where the result with this key is, or would be."""
        return self.root / key[:2] / key

    def replies(self) -> Replies:
        """What judges were answered; the object notes which of it is used."""
        return Replies(self.root / "replies")

    def get(self, key: str) -> Result | None:
        """A committed result, or None."""
        try:
            about = json.loads((self.folder(key) / MARKER).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return Result(self.folder(key), about, reused=True)

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
        is committed and the workspace stays for the next try. `fresh` computes it again even if it is there. `waiting` is called
        once if another run is computing it.
        """
        key = digest(identity)
        if not fresh and (found := self.get(key)):
            return found
        with self._lock(key, waiting):
            if not fresh and (found := self.get(key)):
                return found
            partial = self.root / key[:2] / f".{key}.partial"
            if fresh:
                shutil.rmtree(partial, ignore_errors=True)
            work = Workspace(partial / "output", partial / "checkpoints")
            shutil.rmtree(work.output, ignore_errors=True)
            try:
                work.output.mkdir(parents=True)
                work.checkpoints.mkdir(exist_ok=True)
                about = {"key": key, "identity": json.loads(canonical_json(identity)), **(build(work) or {})}
                write_json(work.output / MARKER, {**about, "committed": time.time()})
                self._commit(key, work.output)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise StageError(
                        f"no space left for {self.root}; free some, or choose another store with --store"
                    ) from None
                raise
            shutil.rmtree(partial, ignore_errors=True)
        return Result(self.folder(key), about, reused=False)

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
