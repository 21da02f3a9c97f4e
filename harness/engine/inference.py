"""Passes without gradients: batches by a token budget that shrinks when memory runs out, weights cast to bf16 once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from ..errors import StageError
from .batching import length_batches
from .models import autocast, keep_freed_memory
from .packing import packed_weights

if TYPE_CHECKING:
    from ..components import Compute

CPU_PASS_TOKENS, PASS_TOKENS = 1024, 16384
"""Padded tokens of a forward pass without a cache, on a CPU and elsewhere.

On a CPU 1024 tokens keep the matrix products busy, and what lies between them stays near the processor: twice the tokens
took a quarter longer (docs/performance.md).
"""


def pass_tokens(compute: Compute) -> int:
    """The token budget of passes without a cache."""
    return CPU_PASS_TOKENS if compute.device == "cpu" else PASS_TOKENS


def run_batches(lengths: Sequence[int], max_tokens: int, compute: Compute, work: Callable[[list[int]], None]) -> None:
    """Call `work` with the row numbers of each batch, longest rows first: see `length_batches`.

    When the device runs out of memory, `compute.memory` halves the budget of this and all later calls, and the rows that
    are left are batched anew. Raises StageError for a row that does not fit alone.
    """
    keep_freed_memory()
    waiting = length_batches(lengths, None, compute.memory.share(max_tokens))
    while waiting:
        if fits_in_memory(partial(work, waiting[0])):
            del waiting[0]
            continue
        shrink_budget(compute, max_tokens, len(waiting[0]), lengths[waiting[0][0]])
        left = [row for batch in waiting for row in batch]
        again = length_batches([lengths[row] for row in left], None, compute.memory.share(max_tokens))
        waiting = [[left[place] for place in batch] for batch in again]


def fits_in_memory(work: Callable[[], None]) -> bool:
    """Do `work`, and say whether the device had memory enough for it."""
    try:
        work()
    except torch.OutOfMemoryError:
        pass
    else:
        return True
    # Outside `except`: while the error is alive, its traceback keeps the tensors of `work` alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def take_peak_bytes() -> int | None:
    """The most memory that tensors held on the GPU since the last call; None where nothing was computed on one yet."""
    if not torch.cuda.is_initialized():
        return None
    peak = int(torch.cuda.max_memory_allocated())
    torch.cuda.reset_peak_memory_stats()
    return peak


def shrink_budget(compute: Compute, max_tokens: int, rows: int, longest: int) -> None:
    """Halve the budget `max_tokens` and all others until `rows` of `longest` tokens, which did not fit, are over it.

    Raises StageError for a single row.
    """
    if rows == 1:
        raise StageError(
            f"out of memory on {compute.device} with a single row of {longest} tokens; lower max_new_tokens or "
            "max_length, set lora or args: {activation_checkpointing: true} where it trains, or give the run a device with more memory"
        )
    compute.memory.halve(max_tokens, held=rows * longest)


@contextlib.contextmanager
def fixed_weights(model: Any, compute: Compute) -> Iterator[None]:
    """Many passes of `model` without gradients, between which no weight changes: each is cast or packed once, not once a pass."""
    with cast_once(model, compute), packed_weights(model, compute):
        yield


@contextlib.contextmanager
def cast_once(model: Any, compute: Compute) -> Iterator[None]:
    """One autocast context over many passes of `model`: each weight is cast to bf16 once, not once a pass.

    Autocast keeps a cast weight only while its context is open, and only if the weight requires a gradient; those that
    do not (a reference, the base under LoRA) are made to look as if. Open it without gradients.
    """
    frozen = [weight for weight in model.parameters() if not weight.requires_grad and weight.is_floating_point()]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        with autocast(compute):
            yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
