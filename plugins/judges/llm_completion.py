"""A chat completion as the `openai` client gives it, read as a reply."""

from __future__ import annotations

from typing import Any

from .llm_verdict import Alternative, Reply, Token

NOT_A_COMPLETION = "the reply is no JSON of a chat completion"

ROUNDING = 0.01
"""How far above 0 rounding may lift a log-probability."""


def read_completion(completion: Any) -> Reply | None:
    """The reply in a completion; None if it is none. The client checks no shapes, so it may be anything."""
    try:
        choice = completion.choices[0]
        message = choice.message
        text, refusal = message.content, getattr(message, "refusal", None)
        if not isinstance(text, str | None):
            return None
        usage = getattr(completion, "usage", None)
        return Reply(
            text=text or "",
            finish=choice.finish_reason,
            refusal=refusal if isinstance(refusal, str) else None,
            tokens=_tokens(getattr(choice, "logprobs", None)),
            model=completion.model if isinstance(getattr(completion, "model", None), str) else "",
            input_tokens=_count(usage, "prompt_tokens"),
            output_tokens=_count(usage, "completion_tokens"),
        )
    except (AttributeError, TypeError, IndexError, KeyError):
        return None


def _tokens(logprobs: Any) -> tuple[Token, ...]:
    content = getattr(logprobs, "content", None) or ()
    try:
        tokens = tuple(
            Token(
                str(each.token),
                float(each.logprob),
                tuple(Alternative(str(other.token), float(other.logprob)) for other in each.top_logprobs or ()),
            )
            for each in content
        )
    except (AttributeError, TypeError, ValueError):
        return ()
    known = [token.logprob for token in tokens] + [each.logprob for token in tokens for each in token.alternatives]
    return tokens if all(logprob <= ROUNDING for logprob in known) else ()  # NaN is no log-probability, either


def _count(usage: Any, name: str) -> int | None:
    count = getattr(usage, name, None)
    return count if isinstance(count, int) and count >= 0 else None
