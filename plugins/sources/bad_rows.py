"""Why a row is of no use; the reasons are counted and shown."""

from __future__ import annotations

MISSING = "missing field"
EMPTY = "empty answer"
IDENTICAL = "identical pair"
UNSHARED = "prompts that differ"
INVALID = "invalid value"


def fault(chosen: str, rejected: str) -> str | None:
    """What is wrong with a pair of answers, or None."""
    if not chosen.strip() or not rejected.strip():
        return EMPTY
    return IDENTICAL if chosen.strip() == rejected.strip() else None
