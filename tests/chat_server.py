"""A loopback server that speaks the chat completions API, well or badly, and remembers what it was asked."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FENCED = re.compile(r"<<<answer (?:[AB] )?([0-9a-f]{16})>>>\n(.*?)\n<<<end of answer (?:[AB] )?\1>>>", re.DOTALL)


@dataclass(frozen=True)
class Request:
    """One request that came in."""

    body: Mapping[str, Any]
    authorization: str
    at: float

    @property
    def text(self) -> str:
        """The user's message."""
        return str(self.body["messages"][-1]["content"])

    @property
    def answers(self) -> list[str]:
        """The answers that are judged, in their order."""
        return [text for _, text in FENCED.findall(self.text)]

    @property
    def identity(self) -> str:
        """What is asked, to tell whether it was asked before."""
        return json.dumps(self.body, sort_keys=True)


@dataclass
class Answer:
    """What the server sends back: a status, headers and a body; or it waits, or cuts the connection, before or in the body."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    wait: float = 0.0
    cut: bool = False


Respond = Callable[[Request, int], Answer]


def completion(
    text: str | None,
    *,
    logprobs: Sequence[Mapping[str, Any]] | None = None,
    usage: tuple[int, int] | None = (100, 5),
    model: str = "judge-2025-01-01",
    **choice: Any,
) -> Answer:
    """A completion with this text."""
    body: dict[str, Any] = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
                "logprobs": {"content": logprobs} if logprobs is not None else None,
                **choice,
            }
        ],
    }
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Answer(json.dumps(body).encode())


def error(status: int, message: str, **headers: str) -> Answer:
    """An error as the API sends one."""
    body = {"error": {"message": message, "type": "some_error", "code": None}}
    return Answer(json.dumps(body).encode(), status, {name.replace("_", "-"): value for name, value in headers.items()})


def prefers_longer(request: Request, _: int = 0) -> Answer:
    """The verdict of a judge that prefers the longer answer."""
    first, second = (len(answer) for answer in request.answers)
    return completion(f"VERDICT: {'A' if first > second else 'B' if second > first else 'TIE'}")


@dataclass
class ChatServer:
    """Where the server is, and what came in so far."""

    url: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def serving(respond: Respond) -> Iterator[ChatServer]:
    """A server that answers request number 0, 1, … with what `respond` returns."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request = Request(body, self.headers.get("Authorization", ""), time.monotonic())
            with lock:
                number = len(found.requests)
                found.requests.append(request)
            answer = respond(request, number)
            stopping.wait(answer.wait)
            self.close_connection = answer.cut or answer.wait > 0
            if answer.cut and not answer.body:
                self.connection.close()
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body) + (100 if answer.cut else 0)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except (ConnectionError, ValueError, OSError):
                self.close_connection = True  # the client has hung up, or this handler has

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:
            pass

    stopping = threading.Event()
    server = Server(("127.0.0.1", 0), Handler)
    found = ChatServer(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
