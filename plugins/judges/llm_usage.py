"""What judgements cost, added up from the replies that they rest on."""

from __future__ import annotations

from collections.abc import Sequence

import harness

from .llm_calls import KeptReply
from .llm_verdict import Unread


def usage(replies: Sequence[KeptReply | Unread]) -> tuple[harness.Usage | None, float | None]:
    """The tokens and the price of replies, and their cost in dollars; None where there is none, or it is not known.

    The cost is what they cost when they were asked, which is before this run where they come from the store. A reply that
    answers two equal questions is one.
    """
    read = list({id(each): each for each in replies if isinstance(each, KeptReply)}.values())
    if not read:
        return None, None
    price = read[-1].price_per_million
    found = harness.Usage(
        model=", ".join(dict.fromkeys(each.model for each in read)),
        replies=len(read),
        input_tokens=_sum([each.input_tokens for each in read]),
        output_tokens=_sum([each.output_tokens for each in read]),
        input_price=price.input if price else None,
        output_price=price.output if price else None,
    )
    costs = [each.cost for each in read]
    return found, None if any(cost is None for cost in costs) else sum(cost for cost in costs if cost is not None)


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
