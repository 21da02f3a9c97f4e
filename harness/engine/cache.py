"""A key-value cache in memory that is allocated once; transformers' DynamicCache copies itself at every token."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from ..errors import StageError

ATTENTION_CACHE, STATE_CACHE = "past_key_values", "cache_params"
"""What transformers' models call their cache: those with attention, and those with states alone, such as Mamba."""


@dataclass
class Window:
    """Which part of the cache the next forward pass sees: `rows`, and columns from `begin` up to `end`, its own included."""

    rows: slice
    begin: int
    end: int
    seen: int


class PreallocatedCache(Cache):  # type: ignore[misc]
    """Keys and values of B rows in C columns, (B, heads, C, head size) a layer, as the values' dtype.

    `open` says where the next pass writes, so that parts of a batch can be prefilled one after another and decoded
    together; `move` drops rows and makes room for others; `keep_prefix` and `begin_with_prefix` write into many rows what
    was computed once. A sliding window is left to the attention mask, which has it in any case.
    """

    def __init__(self, layers: int, rows: int, columns: int) -> None:
        self._window = Window(slice(0, rows), 0, 0, 0)
        super().__init__(layers=[_Layer(self._window, rows, columns) for _ in range(layers)])

    def open(self, rows: slice, begin: int, end: int, new: int) -> None:
        """The next pass computes `new` columns up to `end` for `rows`, and sees from `begin` on."""
        window = self._window
        window.rows, window.begin, window.end, window.seen = rows, begin, end, end - begin - new

    def move(self, kept: torch.Tensor, rows: int, columns: int, end: int) -> None:
        """Go on in a cache of `rows` × `columns`: the rows `kept`, if any, come first, and what they hold ends at column `end`."""
        for layer in self.layers:
            layer.move(kept, rows, columns, end)

    def keep_prefix(self, length: int) -> None:
        """Keep a copy of the keys and values that the first row holds in its first `length` columns."""
        for layer in self.layers:
            layer.keep_prefix(length)

    def begin_with_prefix(self, rows: slice, starts: torch.Tensor) -> None:
        """Write the prefix into `rows`, into each from its column of `starts` (rows,) on."""
        for layer in self.layers:
            layer.begin_with_prefix(rows, starts)


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    is_sliding = False

    def __init__(self, window: Window, rows: int, columns: int) -> None:
        super().__init__()
        self.window, self.size = window, (rows, columns)
        self.prefix: dict[str, torch.Tensor] = {}
        """Keys and values that many rows begin with, (length, heads, head size) each."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        rows, columns = self.size
        # Zeros, since what is masked still enters a product: 0 · NaN is NaN. One dtype, since autocast would cast the keys,
        # which rotary embeddings make fp32, at every step anew.
        self.keys, self.values = (
            value_states.new_zeros(rows, states.shape[1], columns, states.shape[-1])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, begin, end = self.window.rows, self.window.begin, self.window.end
        start = end - key_states.shape[-2]
        self.keys[rows, :, start:end] = key_states
        self.values[rows, :, start:end] = value_states
        return self.keys[rows, :, begin:end], self.values[rows, :, begin:end]

    def move(self, kept: torch.Tensor, rows: int, columns: int, end: int) -> None:
        old, self.size = self.window.end, (rows, columns)
        if not self.is_initialized:  # where layers share the keys of another
            return
        for name in ("keys", "values"):
            states = getattr(self, name)
            held = states[kept, :, old - end : old]
            moved = _zeros(states, (rows, states.shape[1], columns, states.shape[-1]))
            moved[: len(kept), :, :end] = held
            setattr(self, name, moved)

    def keep_prefix(self, length: int) -> None:
        names = ("keys", "values") if self.is_initialized else ()
        self.prefix = {name: getattr(self, name)[0, :, :length].transpose(0, 1).clone() for name in names}

    def begin_with_prefix(self, rows: slice, starts: torch.Tensor) -> None:
        row = torch.arange(len(starts), device=starts.device)[:, None]
        for name, prefix in self.prefix.items():
            columns = starts[:, None] + torch.arange(len(prefix), device=starts.device)
            getattr(self, name)[rows][row, :, columns] = prefix

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.window.end - self.window.begin, 0

    def get_seq_length(self) -> int:
        return self.window.seen

    def get_max_length(self) -> int:
        return self.size[1]


def _zeros(used: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Zeros in the memory of `used` where it is large enough: new pieces of other sizes would leave holes behind."""
    memory, count = used.new_empty(0).set_(used.untyped_storage()), math.prod(shape)
    return memory[:count].zero_().view(shape) if count <= len(memory) else used.new_zeros(shape)


def cache_name(model: Any) -> str:
    """The argument by which a model takes its cache. Raises StageError for one that takes none: it could not be sampled from.

    An unknown argument is swallowed by most models, and each step would then see a single token. Some, such as MiniMax, take
    a cache of their own kind alone.
    """
    known = inspect.signature(type(model).forward).parameters
    takes_ours = getattr(model, "_supports_default_dynamic_cache", lambda: True)()
    for name in (ATTENTION_CACHE, STATE_CACHE):
        if name in known and takes_ours:
            return name
    raise StageError(
        f"{type(model).__name__} takes no cache of keys and values, or of states, that this engine knows, so it cannot be sampled "
        "from; take a base of another architecture"
    )


def make_cache(config: Any, rows: int, columns: int) -> Cache:
    """A cache for `rows` sequences of up to `columns` tokens: preallocated where all layers are attention layers."""
    cache = DynamicCache(config=config)
    if cache.layers and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
        return PreallocatedCache(len(cache.layers), rows, columns)
    return cache
