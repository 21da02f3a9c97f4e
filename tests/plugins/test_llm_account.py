"""A judge's account: what is held is never more than what is left, and what is given back can be spent."""

from __future__ import annotations

import asyncio

import pytest
from harness_plugins.judges.llm_account import Account, Price


def test_a_price_is_for_a_million_tokens() -> None:
    assert Price(3.0, 15.0).of(1_000_000, 200_000) == pytest.approx(6.0)


def test_without_limits_every_attempt_is_granted() -> None:
    assert asyncio.run(Account(None, None).hold(5, 1.0)) == 5


def test_fewer_attempts_are_granted_where_not_all_fit() -> None:
    assert asyncio.run(Account(3, None).hold(5, 0.0)) == 3
    assert asyncio.run(Account(None, 0.35).hold(5, 0.1)) == 3
    assert asyncio.run(Account(2, 0.35).hold(5, 0.1)) == 2
    assert asyncio.run(Account(0, None).hold(5, 0.1)) == 0


def test_sums_of_dollars_do_not_lose_a_call_to_rounding() -> None:
    async def spend() -> int:
        account, calls = Account(None, 0.3), 0
        account.open()
        while granted := await account.hold(1, 0.1):
            await account.settle(granted, 0.1, 1, 0.1)
            calls += 1
        return calls

    assert asyncio.run(spend()) == 3  # although 0.1 + 0.1 + 0.1 > 0.3 in floating point


def test_one_waits_for_what_others_may_give_back() -> None:
    async def spend() -> list[int]:
        account = Account(None, 1.0)
        account.open()
        assert await account.hold(1, 0.8) == 1
        waiting = asyncio.create_task(account.hold(1, 0.8))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await account.settle(1, 0.8, calls=1, dollars=0.1)  # it cost less than the worst case
        first = await waiting
        await account.settle(first, 0.8, calls=1, dollars=0.8)
        return [first, await account.hold(1, 0.8)]

    assert asyncio.run(spend()) == [1, 0]


def test_what_was_spent_is_counted_from_one_event_loop_to_the_next() -> None:
    account = Account(5, None)

    async def spend(calls: int) -> int:
        account.open()
        granted = await account.hold(calls, 0.0)
        await account.settle(granted, 0.0, granted, 0.0)
        return granted

    assert [asyncio.run(spend(3)), asyncio.run(spend(3)), asyncio.run(spend(3))] == [3, 2, 0]
    assert account.calls == 5
