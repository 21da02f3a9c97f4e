"""A gradient as a sum over micro-batches, cut where they cost least, and again where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .batching import cheapest_batches
from .inference import fits_in_memory, shrink_budget
from .models import autocast_cache

if TYPE_CHECKING:
    from ..components import Compute

MAX_TOKENS = 4096
"""Padded tokens of a micro-batch, unless a single row has more."""

CPU_OVERHEAD = 64
"""What a micro-batch costs on a CPU besides its tokens, in tokens; measured with 135 million weights."""

LAUNCHES = 2**43
"""What it costs on a GPU, in tokens × weights: the time in which its kernels are started, whatever they have to do.

Steps of 135 million weights took TRL 0.3 s on an H200 (docs/performance.md), enough for the products of some 60,000 tokens.
"""


@dataclass(frozen=True)
class MicroBatches:
    """How gradients are cut: at most `max_rows` rows together, and `overhead` tokens' worth for each micro-batch."""

    max_rows: int
    overhead: int
    compute: Compute

    @classmethod
    def of(cls, model: Any, max_rows: int, compute: Compute) -> MicroBatches:
        """As `model` computes cheapest."""
        weights = sum(each.numel() for each in model.parameters())
        return cls(max_rows, CPU_OVERHEAD if compute.device == "cpu" else LAUNCHES // weights, compute)

    def cut(self, lengths: Sequence[int]) -> list[list[int]]:
        """The places of rows of these lengths, in micro-batches; the longest of each first."""
        return cheapest_batches(lengths, self.max_rows, self.compute.memory.share(MAX_TOKENS), self.overhead)

    def accumulate(self, lengths: Sequence[int], clear: Callable[[], None], add: Callable[[list[int]], None]) -> None:
        """Add up the gradient of rows of these lengths: `clear` what there is of it, then `add` each micro-batch's.

        When the device runs out of memory, `compute.memory` halves the tokens of this and all later micro-batches, and the
        gradient begins anew. Raises StageError for a row that does not fit alone.
        """

        def attempt() -> None:
            clear()
            with autocast_cache():
                for places in self.cut(lengths):
                    add(places)

        while not fits_in_memory(attempt):
            largest = max(self.cut(lengths), key=lambda places: len(places) * lengths[places[0]])
            shrink_budget(self.compute, MAX_TOKENS, len(largest), lengths[largest[0]])
