"""The Hugging Face Hub on loopback: as much of its interface as downloading models and data sets takes.

Repositories are folders, <root>/models or datasets/<owner>/<name>/<commit>; `main` and other revisions are links to a commit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class Hub(BaseHTTPRequestHandler):
    """Answers /api/<kind>/<repository>/… and /<repository>/resolve/<revision>/<file>."""

    protocol_version = "HTTP/1.1"
    root: Path

    def do_GET(self) -> None:
        """A file, what is known of a repository, or what a folder in one holds."""
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts[0] != "api":
            kind = parts.pop(0) if parts[0] == "datasets" else "models"
            self._file(self._folder(kind, parts[:2], parts[3]), "/".join(parts[4:]))
            return
        kind, repository, rest = parts[1], parts[2:4], parts[4:]
        folder = self._folder(kind, repository, rest[1] if len(rest) > 1 else "main")
        if folder is None:
            self._answer(404, code="RepoNotFound")
        elif rest[:1] == ["tree"]:
            inside = folder.joinpath(*rest[2:])
            if inside.is_dir():
                found = inside.rglob("*") if parse_qs(url.query).get("recursive") == ["true"] else inside.iterdir()
                self._json([_entry(folder, path) for path in sorted(found)])
            else:
                self._answer(404, code="EntryNotFound")
        else:
            files = [{"rfilename": path.relative_to(folder).as_posix()} for path in folder.rglob("*") if path.is_file()]
            self._json({"id": "/".join(repository), "sha": folder.name, "tags": [], "siblings": files})

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        """What is known of some paths of a repository."""
        body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        _, kind, *repository, _, revision = (unquote(part) for part in self.path.strip("/").split("/"))
        if folder := self._folder(kind, repository, revision):
            self._json([_entry(folder, folder / path) for path in body["paths"] if (folder / path).exists()])
        else:
            self._answer(404, code="RevisionNotFound")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _folder(self, kind: str, repository: list[str], revision: str) -> Path | None:
        folder = self.root.joinpath(kind, *repository, revision)
        return folder.resolve() if folder.is_dir() else None

    def _file(self, folder: Path | None, name: str) -> None:
        if folder is None:
            self._answer(404, code="RevisionNotFound")
        elif (path := folder / name).is_file():
            content = path.read_bytes()
            self._answer(200, content, commit=folder.name, etag=f'"{hashlib.sha1(content).hexdigest()}"')
        else:
            self._answer(404, code="EntryNotFound", commit=folder.name)

    def _json(self, document: Any) -> None:
        self._answer(200, json.dumps(document).encode())

    def _answer(self, status: int, body: bytes = b"", *, code: str = "", commit: str = "", etag: str = "") -> None:
        self.send_response(status)
        named = {"X-Error-Code": code, "X-Repo-Commit": commit, "ETag": etag, "Content-Length": str(len(body))}
        for name, value in named.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    kind, size = ("directory", 0) if path.is_dir() else ("file", path.stat().st_size)
    return {"type": kind, "path": path.relative_to(folder).as_posix(), "size": size, "oid": "0" * 40}


@contextlib.contextmanager
def serve_hub(root: Path) -> Iterator[str]:
    """The address of a Hub that holds these repositories, while this is open."""
    handler = type("Handler", (Hub,), {"root": root})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
