"""What the judge `llm` asks of its endpoint: calls and dollars within the budget, retries, how many at once."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("openai")

from chat_server import Answer, Request, completion, error, prefers_longer, serving
from harness_plugins.judges.llm import Llm
from llm_asked import judged, options, pair, pairs

import harness


def test_a_judgement_says_what_it_cost() -> None:
    charged = []
    with serving(prefers_longer) as server:
        config = options(server.url, price_per_million={"input": 3.0, "output": 15.0})
        (verdict,) = judged(Llm(), pairs(1), config, charge=lambda *each: charged.append(each))
    # Two replies of 100 tokens read and 5 written: 2 · (100 · 3 + 5 · 15) / 1,000,000 dollars.
    assert verdict.cost == pytest.approx(0.00075)
    assert verdict.usage == harness.Usage(
        model="judge-2025-01-01", replies=2, input_tokens=200, output_tokens=10, input_price=3.0, output_price=15.0
    )
    assert charged == [(2, pytest.approx(0.00075))]


def test_two_equal_answers_are_one_question_and_cost_one_reply() -> None:
    charged = []
    with serving(prefers_longer) as server:
        config = options(server.url, price_per_million={"input": 3.0, "output": 15.0})
        (verdict,) = judged(Llm(), [pair(0, "same", "same")], config, charge=lambda *each: charged.append(each))
    assert verdict.usage is not None
    assert verdict.usage.replies == len(server.requests) == 1
    assert charged == [(1, pytest.approx(verdict.cost))]


def test_no_more_calls_go_out_than_the_budget_has() -> None:
    with serving(prefers_longer) as server:
        judge, config = Llm(), options(server.url, budget_calls=7, max_retries=3)
        first, second = judged(judge, pairs(3), config), judged(judge, pairs(20)[3:], config)
    assert len(server.requests) == 7
    assert all(verdict.preference is not None for verdict in first)
    assert {verdict.reason for verdict in second} == {"the judge's budget is used up; raise budget_usd or budget_calls"}


def test_no_more_dollars_are_spent_than_the_budget_has() -> None:
    def dear(request: Request, number: int) -> Answer:
        return completion("VERDICT: A", usage=(1000, 10))

    # A call costs 0.02 dollars; the worst case that is held before one is (256 tokens and every byte) + 10 · 1,000.
    price = {"input": 10.0, "output": 1000.0}
    with serving(dear) as server:
        verdicts = judged(Llm(), pairs(50), options(server.url, price_per_million=price, budget_usd=0.2, max_tokens=10))
    spent = len(server.requests) * 0.02
    assert 0.1 <= spent <= 0.2
    assert sum(verdict.preference is None for verdict in verdicts) >= 45


def test_a_lost_reply_is_counted_as_paid() -> None:
    charged: list[tuple[int, float]] = []
    with serving(lambda *_: Answer(b'{"choices"', cut=True)) as server:
        config = options(server.url, price_per_million={"input": 1.0, "output": 1.0}, max_retries=1)
        (verdict,) = judged(Llm(), pairs(1), config, charge=lambda *each: charged.append(each))
    assert verdict.preference is None
    ((calls, dollars),) = charged
    assert calls == len(server.requests) == 4
    assert dollars > 4 * 512 / 1e6


def test_a_retry_waits_as_long_as_it_is_told_to() -> None:
    def respond(request: Request, number: int) -> Answer:
        return error(429, "slow down", Retry_After="1") if number == 0 else completion("VERDICT: TIE")

    with serving(respond) as server:
        (verdict,) = judged(Llm(), [pair(1, "same", "same")], options(server.url, max_retries=1))
    assert verdict.preference == 0.5
    assert server.requests[1].at - server.requests[0].at >= 1.0


def test_no_more_calls_are_under_way_than_allowed() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def respond(request: Request, number: int) -> Answer:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.02)
        with lock:
            now -= 1
        return completion("VERDICT: TIE")

    with serving(respond) as server:
        judged(Llm(), pairs(20), options(server.url, concurrency=3))
    assert 2 <= most <= 3
