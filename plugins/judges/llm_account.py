"""What a judge may spend, in calls and in dollars: held before each call, settled after it, and never exceeded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from .llm_verdict import Unread

MILLION = 1e6


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens."""

    input: float
    output: float

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Dollars for so many tokens."""
        return (input_tokens * self.input + output_tokens * self.output) / MILLION


class Account:
    """Counts what was spent and what is held for calls under way; a limit of None is none.

    A call is one request that goes out, so that a retry is a call of its own. `in_vain` holds, by key, the questions that were
    asked and have no reading: this run spends nothing on them again.
    """

    def __init__(self, calls: int | None, dollars: float | None) -> None:
        self._limits = (calls, dollars)
        self.calls = 0
        self.dollars = 0.0
        self.in_vain: dict[str, Unread] = {}
        self._held_calls = 0
        self._held_dollars = 0.0
        self._changed = asyncio.Condition()

    def open(self) -> None:
        """Begin in the running event loop."""
        self._changed = asyncio.Condition()
        self._held_calls, self._held_dollars = 0, 0.0

    async def hold(self, attempts: int, each: float) -> int:
        """Hold the worst case of up to `attempts` calls of at most `each` dollars.

        Returns how many of them may go out; 0 says that the budget is used up. Waits while calls under way may yet cost less
        than what is held for them.
        """
        async with self._changed:
            while (granted := min(attempts, self._affordable(each))) < attempts and self._held_calls:
                await self._changed.wait()
            self._held_calls += granted
            self._held_dollars += granted * each
            return granted

    async def settle(self, granted: int, each: float, calls: int, dollars: float) -> None:
        """Give back what was held, and count what was really spent."""
        async with self._changed:
            self._held_calls -= granted
            self._held_dollars = self._held_dollars - granted * each if self._held_calls else 0.0
            self.calls += calls
            self.dollars += dollars
            self._changed.notify_all()

    def _affordable(self, each: float) -> int:
        calls, dollars = self._limits
        bounds = [2**31]
        if calls is not None:
            bounds.append(calls - self.calls - self._held_calls)
        if dollars is not None and each > 0:
            # A hair's breadth for the rounding of sums, so that a budget of three calls buys three.
            bounds.append(int((dollars - self.dollars - self._held_dollars) / each + 1e-9))
        return max(0, min(bounds))
