"""One call to an OpenAI-compatible endpoint: a reply, or the reason why there is none."""

from __future__ import annotations

import asyncio
import os
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .llm_account import Account
from .llm_completion import NOT_A_COMPLETION, read_completion
from .llm_options import OPENAI, EndpointOptions
from .llm_prompts import Messages, upper_tokens
from .llm_verdict import Reply

if TYPE_CHECKING:
    from openai import AsyncOpenAI

LONGEST_PAUSE = 120.0
"""Seconds; the client waits no longer than this before a retry, whatever `Retry-After` says."""

ROW_OF_FAILURES = 20
"""So many calls in a row without a reply, and the endpoint is asked no more."""

STOPPING = {401: "refused the key", 404: "does not know the model or the address"}


@dataclass
class Traffic:
    """The requests that went out for one call, and the status of each that was answered."""

    sent: int = 0
    statuses: list[int] = field(default_factory=list)

    def maybe_billed(self) -> int:
        """Requests that were not refused: their answer came, or was lost on the way."""
        return self.sent - sum(status >= 400 for status in self.statuses)


@dataclass(frozen=True)
class Answered:
    """A reply with what its call cost: dollars, None where prices are not known."""

    reply: Reply
    dollars: float | None


@dataclass(frozen=True)
class Failed:
    """Why a call has no reply. `silent` says that the endpoint may be down: it gave nothing, or an error of its own.

    Where nothing was `sent`, not even a request went out.
    """

    reason: str
    silent: bool = False
    sent: bool = True


class Endpoint:
    """Calls one endpoint from one event loop. Use as an asynchronous context manager; close before the loop ends."""

    def __init__(self, options: EndpointOptions, account: Account) -> None:
        self._options = options
        self._account = account
        self._traffic: ContextVar[Traffic] = ContextVar("traffic")
        self._places = asyncio.Semaphore(options.concurrency)
        self._logprobs = options.top_logprobs > 0
        self._failures = 0
        self._stopped: str | None = None
        self._key = os.environ.get(options.api_key_env, "").strip() if options.api_key_env else ""
        if options.api_key_env and not self._key:
            self._stopped = f"{options.api_key_env} is not set; nothing was asked"
        elif not (self._key.isascii() and self._key.isprintable()):
            self._stopped = f"{options.api_key_env} holds characters that no key has; nothing was asked"
        self._client: AsyncOpenAI | None = None

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._client is not None:
            await self._client.close()

    async def ask(self, messages: Messages) -> Answered | Failed:
        """One call within the budget, with the client's retries."""
        async with self._places:
            if self._stopped is not None:
                return Failed(self._stopped, sent=False)
            answer = await self._ask(messages)
            if isinstance(answer, Failed) and self._logprobs and "logprobs" in answer.reason:
                self._logprobs = False  # an endpoint that has none says so, once
                answer = await self._ask(messages)
        if isinstance(answer, Answered):
            self._failures = 0
        elif answer.silent:
            self._failures += 1
            if self._failures >= ROW_OF_FAILURES and self._stopped is None:
                self._stopped = (
                    f"not asked, after {ROW_OF_FAILURES} calls in a row had failed, the last one: {answer.reason}"
                )
        return answer

    def without_key(self, text: str) -> str:
        """A text without the key, should the endpoint have sent it back."""
        return without(self._key, text)

    async def _ask(self, messages: Messages) -> Answered | Failed:
        options, price = self._options, self._options.price()
        worst = price.of(upper_tokens(messages), options.max_tokens) if price else 0.0
        granted = await self._account.hold(options.max_retries + 1, worst)
        if not granted:
            return Failed("the judge's budget is used up; raise budget_usd or budget_calls", sent=False)
        traffic = Traffic()
        self._traffic.set(traffic)
        saved = 0.0
        try:
            reply = await self._send(messages, granted - 1)
            cost = worst
            if price and isinstance(reply, Reply) and reply.input_tokens is not None and reply.output_tokens is not None:
                cost = price.of(reply.input_tokens, reply.output_tokens)
                saved = worst - cost
        finally:
            # A request that was not refused may have been billed, whether its reply came or was lost on the way.
            await self._account.settle(granted, worst, traffic.sent, traffic.maybe_billed() * worst - saved)
        return reply if isinstance(reply, Failed) else Answered(reply, cost if price else None)

    async def _send(self, messages: Messages, retries: int) -> Reply | Failed:
        import openai

        options = self._options
        request: dict[str, Any] = {
            "model": options.model,
            "messages": list(messages),
            "temperature": options.temperature,
            options.max_tokens_field: options.max_tokens,
        }
        if self._logprobs:
            request |= {"logprobs": True, "top_logprobs": options.top_logprobs}
        client = self._open(retries)
        try:
            # Each part of a request has its own time-out; this one ends a reply that drips for ever.
            async with asyncio.timeout((retries + 1) * (options.timeout + LONGEST_PAUSE)):
                completion = await client.chat.completions.create(**request, extra_body=options.extra or None)
        except openai.APIStatusError as error:
            return self._refused(error)
        except (openai.APITimeoutError, TimeoutError):
            return Failed(f"no reply within {options.timeout:g} s", silent=True)
        except openai.APIConnectionError:
            return Failed("the connection failed", silent=True)
        except (openai.OpenAIError, ValueError):
            return Failed(NOT_A_COMPLETION)
        reply = read_completion(completion)
        return Failed(NOT_A_COMPLETION) if reply is None else reply

    def _open(self, retries: int) -> AsyncOpenAI:
        import openai

        if self._client is None:

            async def sent(_: Any) -> None:
                self._traffic.get().sent += 1

            async def answered(response: Any) -> None:
                self._traffic.get().statuses.append(response.status_code)

            hooks: Any = {"request": [sent], "response": [answered]}
            self._client = openai.AsyncOpenAI(
                # The client takes OPENAI_API_KEY where it is given none, and that key is not for every endpoint.
                api_key=self._key or "none",
                base_url=self._options.base_url,
                timeout=self._options.timeout,
                http_client=openai.DefaultAsyncHttpxClient(event_hooks=hooks, timeout=self._options.timeout),
            )
        client = self._client.with_options(max_retries=retries)
        if self._options.base_url.rstrip("/") != OPENAI:
            client.organization = client.project = None  # the client takes them from the environment, whoever is asked
        return client

    def _refused(self, error: Any) -> Failed:
        """What an HTTP status and the endpoint's own words for it say; the words are cut, and never hold the key."""
        status = int(error.status_code)
        if status in STOPPING:
            self._stopped = f"the endpoint {STOPPING[status]} (HTTP {status})"
            return Failed(self._stopped)
        body = error.body if isinstance(error.body, dict) else {}
        body = body["error"] if isinstance(body.get("error"), dict) else body
        words = " ".join(str(body.get("message") or body.get("detail") or "").split())
        said = f": {shortened(without(self._key, words))}" if words else ""
        return Failed(f"HTTP {status} from the endpoint{said}", silent=status == 429 or status >= 500)


def without(key: str, text: str) -> str:
    """A text without any word that shares eight characters in a row with the key, which an endpoint may quote in part.

    A key of fewer than four is a stand-in that a local server wants, and only hidden where it is a word by itself.
    """
    if len(key) < 4:
        return " ".join("[…]" if key and word == key else word for word in text.split(" "))
    pieces = {key[start : start + 8] for start in range(max(1, len(key) - 7))}
    return " ".join("[…]" if any(piece in word for piece in pieces) else word for word in text.split(" "))


def shortened(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= 160 else f"{text[:159]}…"
