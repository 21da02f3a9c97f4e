"""Batched sampling with a key-value cache; every answer follows from its own prompt and seed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F

from .batching import length_batches, pad
from .cache import PreallocatedCache, make_cache
from .inference import fits_in_memory, fixed_weights, pass_tokens, shrink_budget
from .models import keep_freed_memory

if TYPE_CHECKING:
    from ..components import Compute

DECODE_TOKENS = 16384
"""Tokens of the rows that are decoded together, prompts and new tokens: their keys and values stay in memory."""


@dataclass(frozen=True)
class Generated:
    """An answer's tokens, its stop token included, and their log-probabilities where they were asked for."""

    ids: tuple[int, ...]
    finish: Literal["stop", "length"]
    logprobs: tuple[float, ...] | None = None


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    compute: Compute,
    *,
    max_new_tokens: int,
    stop: Collection[int],
    pad_id: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    logprobs: bool = False,
    max_tokens: int = DECODE_TOKENS,
) -> list[Generated]:
    """One answer per prompt, in order. Temperature 0 is greedy decoding.

    Row i's randomness is one uniform number per step, drawn from seeds[i], and inverse-CDF sampling: an answer depends on
    its prompt and seed, not on the prompts beside it, up to rounding. Log-probabilities are those of the distribution at
    `temperature` (1 when greedy), before top-p. Prompts are taken up longest first, and as rows end; `max_tokens` bounds
    rows × (prompt + new tokens). When the device runs out of memory, `compute.memory` halves that, and the answers that are
    not done begin anew. Raises StageError for a prompt that does not fit into memory alone.
    """
    answers = [_Answer(prompt, seed, max_new_tokens) for prompt, seed in zip(prompts, seeds, strict=True)]
    waiting = sorted(answers, key=lambda answer: -len(answer.prompt))

    def choose(logits: torch.Tensor, rows: Sequence[_Answer]) -> tuple[list[int], list[float]]:
        uniforms = torch.tensor([answer.uniform for answer in rows], dtype=torch.float64, device=logits.device)
        tokens = sample_tokens(logits, uniforms, temperature, top_p)
        if not logprobs:
            return tokens.tolist(), [0.0] * len(rows)
        scaled = (logits / (temperature or 1.0)).log_softmax(-1)
        return tokens.tolist(), scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).tolist()

    keep_freed_memory()
    with torch.inference_mode(), fixed_weights(model, compute):
        while waiting:
            decoder = _Decoder(model, waiting, frozenset(stop), pad_id, compute, compute.memory.share(max_tokens))
            if not fits_in_memory(partial(decoder.run, choose)):
                shrink_budget(compute, max_tokens, *decoder.size)
            waiting = [answer for answer in waiting if answer.finish is None]
    return [answer.result(logprobs) for answer in answers]


def sample_tokens(logits: torch.Tensor, uniforms: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """One token per row: logits (B, V) and uniform numbers (B,) in [0, 1) → (B,) token ids.

    The token is the first whose cumulative probability exceeds the uniform number. Top-p keeps the smallest set of
    likeliest tokens that has at least that probability (Holtzman et al., 2020).
    """
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits if temperature == 1 else logits / temperature).softmax(-1)
    if top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1, dtype=torch.float64) - ordered
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered.masked_fill(before >= top_p, 0.0))
    return _inverse_cdf(probabilities, uniforms)


def _inverse_cdf(weights: torch.Tensor, uniforms: torch.Tensor, block: int = 256) -> torch.Tensor:
    """The first place whose cumulative weight exceeds its row's share `uniforms` (B,) of the whole: (B, V) → (B,).

    First the block that holds it, then the place in the block: a float64 sum over a large vocabulary loses nothing, but
    takes longer than the softmax.
    """
    blocks = F.pad(weights, (0, -weights.shape[-1] % block)).unflatten(-1, (-1, block))
    ends = blocks.sum(-1).cumsum(-1, dtype=torch.float64)
    number, rest = _first_above(ends, uniforms.unsqueeze(-1) * ends[:, -1:])
    chosen = blocks.take_along_dim(number.unsqueeze(-1), 1).squeeze(1)
    place, _ = _first_above(chosen.cumsum(-1, dtype=torch.float64), rest)
    return (number * block + place).squeeze(-1)


def _first_above(cumulative: torch.Tensor, point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first place (B, 1) where `cumulative` (B, N) exceeds `point` (B, 1), and by how much the sum before falls short.

    A point that rounding put at the end or beyond counts as just before it: what weighs nothing is never chosen.
    """
    point = point.minimum(cumulative[:, -1:].nextafter(cumulative.new_zeros(())))
    place = torch.searchsorted(cumulative, point, right=True)
    return place, point - F.pad(cumulative, (1, 0)).gather(-1, place)


class _Answer:
    """A prompt, and what has been sampled for it so far."""

    def __init__(self, prompt: Sequence[int], seed: int, max_new_tokens: int) -> None:
        self.prompt = prompt
        generator = torch.Generator().manual_seed(seed)
        self.uniforms: list[float] = torch.rand(max_new_tokens, generator=generator, dtype=torch.float64).tolist()
        self.restart()

    def restart(self) -> None:
        """Forget what has been sampled."""
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.finish: Literal["stop", "length"] | None = None

    @property
    def length(self) -> int:
        """Tokens so far, the prompt's included."""
        return len(self.prompt) + len(self.ids)

    @property
    def left(self) -> int:
        """How many tokens may still come."""
        return len(self.uniforms) - len(self.ids)

    @property
    def uniform(self) -> float:
        """The random number of the next token; any number, where none will come."""
        return self.uniforms[len(self.ids)] if self.left else 0.0

    def append(self, token: int, logprob: float, stop: Collection[int]) -> None:
        """Take the next token. An answer that has ended stays as it is: its row only waits to be dropped."""
        if self.finish is None:
            self.ids.append(token)
            self.logprobs.append(logprob)
            self.finish = "stop" if token in stop else None if self.left else "length"

    def result(self, logprobs: bool) -> Generated:
        return Generated(tuple(self.ids), self.finish or "length", tuple(self.logprobs) if logprobs else None)


class _Decoder:
    """Answers on their way: `live` ones have a row of the cache, `waiting` ones have not, longest prompt first.

    All rows write their next token into one column, the last before `end`; a prompt that is taken up later is read so that it
    ends there, too. What stands before a row's column in `starts` is padding.
    """

    def __init__(
        self, model: Any, waiting: Sequence[_Answer], stop: Collection[int], pad_id: int, compute: Compute, max_tokens: int
    ) -> None:
        self.model, self.stop, self.pad_id, self.max_tokens = model, stop, pad_id, max_tokens
        self.device, self.pass_tokens = compute.device, pass_tokens(compute)
        self.cache: Any = None
        self.live: list[_Answer] = []
        self.waiting = list(waiting)
        for answer in self.waiting:
            answer.restart()
        self.starts, self.end, self.size = torch.empty(0), 0, (0, 0)

    def run(self, choose: Callable[[torch.Tensor, Sequence[_Answer]], tuple[list[int], list[float]]]) -> None:
        """Sample until every answer has ended; `choose` gives a token and its log-probability for each row of logits."""
        while True:
            ended = sum(answer.finish is not None for answer in self.live)
            if ended == len(self.live) and not self.waiting:
                return
            # Only our own cache gives up rows, and takes up others, while some are on their way.
            few = 8 * ended < len(self.live) if isinstance(self.cache, PreallocatedCache) else ended < len(self.live)
            logits = self._step() if few else self._regroup()
            for answer, token, logprob in zip(self.live, *choose(logits, self.live), strict=True):
                answer.append(token, logprob, self.stop)

    def _step(self) -> torch.Tensor:
        """The logits (rows, V) of the next column."""
        self.end += 1
        return self._decode(len(self.live))

    def _decode(self, count: int) -> torch.Tensor:
        """The logits (count, V) after the newest token of the first `count` rows."""
        return self._read([answer.ids[-1:] for answer in self.live[:count]], slice(0, count), 0)

    def _regroup(self) -> torch.Tensor:
        """Drop the rows that have ended and take up waiting prompts: the logits (rows, V) of all that are live now."""
        kept = [row for row, answer in enumerate(self.live) if answer.finish is None]
        self.live = [self.live[row] for row in kept]
        width = max(answer.length for answer in self.live or self.waiting[:1])
        fresh = self._take_up(width)
        self.live += fresh
        self.size = len(self.live), width + max(answer.left for answer in self.live)
        if kept:
            self.cache.move(torch.tensor(kept, device=self.device), *self.size, width - 1)
        else:
            self.cache = make_cache(self.model.config, *self.size)
        self.starts = torch.tensor([width - answer.length for answer in self.live], device=self.device)
        self.end = width
        decoded = [self._decode(len(kept))] if kept else []
        return torch.cat(decoded + self._prefill(fresh))

    def _take_up(self, width: int) -> list[_Answer]:
        """As many waiting answers as may stand beside the live ones in rows that are `width` tokens long so far."""
        room = self.max_tokens // (width + self.waiting[0].left) - len(self.live) if self.waiting else 0
        count = max(room, 0 if self.live else 1)
        fresh, self.waiting = self.waiting[:count], self.waiting[count:]
        return fresh

    def _prefill(self, fresh: Sequence[_Answer]) -> list[torch.Tensor]:
        """The logits (rows, V) after the prompts of the last rows, read in parts of similar length: little is padding."""
        lengths, before = [len(answer.prompt) for answer in fresh], len(self.live) - len(fresh)
        parts = [list(range(len(fresh)))] if fresh else []
        if isinstance(self.cache, PreallocatedCache):
            parts = length_batches(lengths, None, self.pass_tokens)
        return [
            self._read(
                [fresh[row].prompt for row in part],
                slice(before + part[0], before + part[-1] + 1),
                self.end - lengths[part[0]],
            )
            for part in parts
        ]

    def _read(self, tokens: Sequence[Sequence[int]], rows: slice, begin: int) -> torch.Tensor:
        """Logits (rows, V) after `tokens`, which end at the column `end`; the columns before `begin` are all padding."""
        input_ids, _ = pad(tokens, self.pad_id, side="left")
        new, starts = input_ids.shape[1], self.starts[rows, None]
        columns = torch.arange(begin, self.end, device=self.device)
        if isinstance(self.cache, PreallocatedCache):
            self.cache.open(rows, begin, self.end, new)
        output = self.model(
            input_ids=input_ids.to(self.device),
            attention_mask=(columns >= starts).long(),
            position_ids=(columns[-new:] - starts).clamp(min=0),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float()
