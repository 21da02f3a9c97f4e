"""The key of the judge `llm`: whom it is sent to, and that no part of it is ever told."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("openai")

from chat_server import Answer, Request, completion, error, prefers_longer, serving
from harness_plugins.judges.llm import Llm
from harness_plugins.judges.llm_client import without
from llm_asked import KEY, judged, options, pairs


def test_a_wrong_key_ends_the_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    with serving(lambda *_: error(401, f"Incorrect API key provided: {KEY}")) as server:
        verdicts = judged(Llm(), pairs(30), options(server.url, api_key_env="LOOPBACK_KEY"))
    assert len(server.requests) == 1
    assert server.requests[0].authorization == f"Bearer {KEY}"
    assert {verdict.reason for verdict in verdicts} == {"the endpoint refused the key (HTTP 401)"}


def test_a_key_that_is_not_set_is_not_replaced_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("LOOPBACK_KEY", raising=False)
    with serving(prefers_longer) as server:
        (verdict,) = judged(Llm(), pairs(1), options(server.url, api_key_env="LOOPBACK_KEY"))
        assert not server.requests
        judged(Llm(), pairs(1), options(server.url))
    assert verdict.reason == "LOOPBACK_KEY is not set; nothing was asked"
    assert KEY not in {request.authorization.removeprefix("Bearer ") for request in server.requests}


@pytest.mark.parametrize("quoted", [KEY, KEY[:12] + "****", f"Bearer:{KEY}", KEY[5:]])
def test_no_part_of_the_key_is_ever_told(quoted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    cache: dict[str, Any] = {}

    def respond(request: Request, number: int) -> Answer:
        if number % 3 == 0:
            return completion(f"I was given {quoted} as a key and say nothing.")
        if number % 3 == 1:
            return completion(f"I was given {quoted} as a key.\nVERDICT: TIE", model=f"judge-{quoted}")
        return error(400, f"bad request with {quoted} in it")

    with serving(respond) as server:
        # One at a time, so that the first order of a pair meets each of the three: a pair tells its first reason only.
        config = options(server.url, api_key_env="LOOPBACK_KEY", concurrency=1)
        verdicts = judged(Llm(), pairs(4), config, cache=cache)
    told = json.dumps(cache) + repr(verdicts)
    assert "VERDICT: TIE" in told
    assert "bad request with […] in it" in told
    assert "'I was given […] as a key and say nothing.'" in told
    assert not any(KEY[start : start + 8] in told for start in range(len(KEY) - 7))


@pytest.mark.parametrize("key", ["sk-\nsecret", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_told_without_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBACK_KEY", key)
    with serving(prefers_longer) as server:
        (verdict,) = judged(Llm(), pairs(1), options(server.url, api_key_env="LOOPBACK_KEY"))
    assert verdict.reason == "LOOPBACK_KEY holds characters that no key has; nothing was asked"
    assert not server.requests


def test_a_key_with_a_line_end_is_sent_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBACK_KEY", f"{KEY}\n")
    with serving(prefers_longer) as server:
        judged(Llm(), pairs(1), options(server.url, api_key_env="LOOPBACK_KEY"))
    assert {request.authorization for request in server.requests} == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("key", "told"), [("sk-test", "key […] is bad"), ("x", "key […] is bad"), ("is", "key […] […] bad")]
)
def test_a_short_key_hides_no_more_than_itself(key: str, told: str) -> None:
    assert without(key, f"key {key} is bad") == told
