"""Rows → token ids, with what was cut or dropped counted, told, and held against the plan's limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import harness

if TYPE_CHECKING:
    from harness.engine.pairs import PairLayout


def usable_length(config: harness.TrainingConfig, context: harness.StageContext, *models: Any) -> int:
    """`max_length`, or the context of the models where that is shorter; says so to whoever asked for more."""
    from harness.engine.chat import context_length

    limit = context_length(*models)
    if limit < config.max_length and "max_length" in config.model_fields_set:
        context.note(f"max_length {config.max_length} is more than the model's context: it is {limit} here")
    return min(config.max_length, limit)


def tell_counts(kept: int, counts: Mapping[str, int], data: harness.Dataset, context: harness.StageContext) -> None:
    """Say what fitting the rows of a data set did. Raises DataError if more rows were dropped than it allows."""
    if truncated := counts.get("truncated", 0):
        context.note(f"{data.reference}: {truncated} of {kept} prompts were cut to max_length, oldest turns first")
    dropped = counts.get("over-long", 0)
    if dropped:
        context.note(f"{data.reference}: dropped {dropped} rows over max_length: answers and system messages are never cut")
    if not kept or dropped > data.max_dropped * (kept + dropped):
        raise harness.DataError(
            f"{data.reference}: {dropped} of {kept + dropped} rows are over max_length, where answers and system messages are "
            f"never cut, more than max_dropped: {data.max_dropped:g} allows; raise the stage's max_length, or max_dropped"
        )


def tell_layout(layout: PairLayout, context: harness.StageContext) -> None:
    """Say it where two answers cannot share their prompt: it costs time, and changes no number."""
    if not layout.shared:
        context.note(f"prompts are computed once per answer, not once per pair: {layout.reason}")
