"""What judging would cost, before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .llm_options import EndpointOptions
from .llm_prompts import Messages, likely_tokens

REPLY_TOKENS = 16
"""About as long as a reply of one line is."""


def forecast(config: EndpointOptions, sizes: Sequence[tuple[Messages, int]], times: int) -> str:
    """Calls, tokens and dollars in a sentence.

    `sizes` are the messages of each prompt without answers, and the most tokens that its answers may add; each is asked
    `times` times.
    """
    if config.judgements is not None:
        return f"no call: {config.model} is not asked, its replies come from {config.judgements}"
    calls = times * len(sizes)
    read = times * sum(sum(likely_tokens(each["content"]) for each in messages) + answers for messages, answers in sizes)
    written = calls * config.max_tokens
    price = config.price()
    dollars = (
        ", prices not known" if price is None else f", ${price.of(read, calls * min(REPLY_TOKENS, config.max_tokens)):.2f}"
    )
    worst = "" if price is None else f" (${price.of(read, written):.2f} if every reply had {config.max_tokens} tokens)"
    budgets = []
    if config.budget_calls is not None:
        budgets.append(f"{config.budget_calls:,} calls")
    if config.budget_usd is not None:
        budgets.append(f"${config.budget_usd:.2f}")
    over = (config.budget_calls is not None and calls > config.budget_calls) or (
        config.budget_usd is not None and price is not None and price.of(read, calls * REPLY_TOKENS) > config.budget_usd
    )
    budget = f"; budget {' and '.join(budgets) or 'none'}{': not enough, some prompts will be unscored' if over else ''}"
    return (
        f"{calls:,} calls to {config.model} at {config.base_url}, about {read:,} tokens read{dollars}{worst}{budget}; less "
        "where the store has replies or answers end early, more where calls are retried"
    )


def cautions(config: EndpointOptions) -> str | None:
    """What may keep the judge from being asked."""
    if config.judgements is None and config.api_key_env and not os.environ.get(config.api_key_env):
        return f"{config.api_key_env} is not set: nothing can be asked, and only what the store has is judged"
    return None
