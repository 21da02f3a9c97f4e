"""Batched sampling with a key-value cache; every answer follows from its own prompt and seed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F

from .batching import length_batches, pad
from .cache import ATTENTION_CACHE, PreallocatedCache, cache_name, make_cache
from .inference import fits_in_memory, fixed_weights, pass_tokens, shrink_budget
from .models import keep_freed_memory

if TYPE_CHECKING:
    from ..components import Compute

CPU_DECODE_TOKENS, DECODE_TOKENS = 16384, 65536
"""Tokens of the rows that are decoded together, prompts and new tokens, on a CPU and elsewhere: their keys and values stay in
memory. A GPU takes as long for a few rows as for many."""

WORTH_A_PASS = 256
"""Tokens that must be saved by reading what all prompts begin with in a pass of its own."""


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
    max_tokens: int | None = None,
) -> list[Generated]:
    """One answer per prompt, in order. Temperature 0 is greedy decoding.

    Row i's randomness is one uniform number per step, drawn from seeds[i], and inverse-CDF sampling: an answer depends on
    its prompt and seed, not on the prompts beside it, up to rounding. Log-probabilities are those of the distribution at
    `temperature` (1 when greedy), before top-p. Prompts are taken up longest first, and as rows end; what all of them begin
    with is read once. `max_tokens` (`decode_tokens`, where left out) bounds rows × (prompt + new tokens). When the device
    runs out of memory, `compute.memory` halves that, and the answers that are not done begin anew. Raises StageError for a
    prompt that does not fit alone.
    """

    def choose(logits: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = sample_tokens(logits, uniforms, temperature, top_p)
        if not logprobs:
            return tokens, logits.new_zeros(len(tokens))
        scaled = (logits / (temperature or 1.0)).log_softmax(-1)
        return tokens, scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)

    max_tokens = max_tokens or decode_tokens(compute)
    decoder = _Decoder(model, prompts, seeds, max_new_tokens, stop, pad_id, compute, choose, logprobs)
    keep_freed_memory()
    with torch.inference_mode(), fixed_weights(model, compute):
        while missing := decoder.missing():
            if not fits_in_memory(partial(decoder.run, missing, compute.memory.share(max_tokens))):
                shrink_budget(compute, max_tokens, *decoder.size)
    return [answer for answer in decoder.answers if answer is not None]


def decode_tokens(compute: Compute) -> int:
    """The token budget of rows that are decoded together."""
    return CPU_DECODE_TOKENS if compute.device == "cpu" else DECODE_TOKENS


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


Choose = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""From logits (rows, V) and uniform numbers (rows,) to tokens and their log-probabilities, (rows,) each."""


@dataclass(frozen=True)
class _Rows:
    """What has been sampled, a row for each answer that is on its way, and the random numbers of S steps.

    tokens, logprobs and uniforms (rows, S + 1): at the last place lands what a row takes that has reached its length and waits
    to be dropped. taken (rows,): how many tokens; ended (rows,) bool.
    """

    tokens: torch.Tensor
    logprobs: torch.Tensor
    uniforms: torch.Tensor
    taken: torch.Tensor
    ended: torch.Tensor

    @property
    def steps(self) -> int:
        """The longest answer, in tokens."""
        return int(self.tokens.shape[1]) - 1

    @classmethod
    def new(cls, seeds: Sequence[int], steps: int, device: str) -> _Rows:
        """Rows without a token."""
        uniforms = torch.zeros(len(seeds), steps + 1, dtype=torch.float64)
        for row, seed in zip(uniforms, seeds, strict=True):
            row[:steps] = torch.rand(steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        taken = torch.zeros(len(seeds), dtype=torch.long, device=device)
        tokens = torch.zeros_like(uniforms, dtype=torch.long, device=device)
        return cls(tokens, tokens.float(), uniforms.to(device), taken, taken.bool())

    def replaced(self, kept: torch.Tensor, fresh: _Rows) -> _Rows:
        """The rows `kept`, and behind them the `fresh` ones."""
        return _Rows(*(torch.cat([getattr(self, field.name)[kept], getattr(fresh, field.name)]) for field in fields(self)))

    def sample(self, logits: torch.Tensor, choose: Choose, stops: torch.Tensor) -> None:
        """Take the next token of every row."""
        place = self.taken.clamp(max=self.steps).unsqueeze(1)
        tokens, logprobs = choose(logits, self.uniforms.gather(1, place).squeeze(1))
        self.tokens.scatter_(1, place, tokens.unsqueeze(1))
        self.logprobs.scatter_(1, place, logprobs.unsqueeze(1))
        self.taken.add_(1)
        self.ended.logical_or_(torch.isin(tokens, stops) | (self.taken >= self.steps))

    def newest(self, count: int) -> torch.Tensor:
        """The last tokens (count, 1) of the first rows."""
        last = (self.taken[:count] - 1).clamp(max=self.steps)
        return self.tokens[:count].gather(1, last.unsqueeze(1))

    def answers(self, rows: torch.Tensor, stop: Collection[int], logprobs: bool) -> list[Generated]:
        """The answers of some rows, each cut after its first stop token; what stands behind that was for the rows beside it."""
        answers = []
        for ids, chosen in zip(self.tokens[rows].tolist(), self.logprobs[rows].tolist(), strict=True):
            stopped = next((place + 1 for place, token in enumerate(ids[: self.steps]) if token in stop), None)
            end = stopped or self.steps
            values = tuple(chosen[:end]) if logprobs else None
            answers.append(Generated(tuple(ids[:end]), "stop" if stopped else "length", values))
        return answers


class _Decoder:
    """Answers to `prompts`, by number: those in `live` have a row of the cache, those in `waiting` have none yet.

    All rows write their next token into one column, the last before `end`; a prompt that is taken up later is read so that it
    ends there, too. What stands before a row's column in `starts` is padding. The first `shared` tokens of all prompts are
    read once.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        steps: int,
        stop: Collection[int],
        pad_id: int,
        compute: Compute,
        choose: Choose,
        logprobs: bool,
    ) -> None:
        self.model, self.prompts, self.seeds, self.steps, self.pad_id = model, prompts, seeds, steps, pad_id
        self.device, self.pass_tokens, self.choose, self.logprobs = compute.device, pass_tokens(compute), choose, logprobs
        self.stop = frozenset(stop)
        self.cache_name = cache_name(model)
        # Only our own cache gives up rows, and takes up others, while some are on their way; and only it takes a prefix.
        self.preallocated = isinstance(make_cache(model.config, 0, 0), PreallocatedCache)
        self.shared = _shared(prompts) if self.preallocated and not _keys_follow_length(model.config) else 0
        self.answers: list[Generated | None] = [None] * len(prompts)
        self.size = (0, 0)
        """Rows and columns of the cache."""

    def missing(self) -> list[int]:
        """The prompts that have no answer, longest first."""
        numbers = [number for number, answer in enumerate(self.answers) if answer is None]
        return sorted(numbers, key=lambda number: -len(self.prompts[number]))

    def run(self, waiting: Sequence[int], max_tokens: int) -> None:
        """Sample until each of these prompts has its answer, in a cache of at most `max_tokens` places."""
        self.waiting, self.max_tokens, self.live = list(waiting), max_tokens, list[int]()
        self.cache: Any = None
        self.rows = _Rows.new([], self.steps, self.device)
        stops = torch.tensor(sorted(self.stop), dtype=torch.long, device=self.device)
        while True:
            ended = int(self.rows.ended.sum())
            if ended == len(self.live) and not self.waiting:
                self._collect()
                return
            few = 8 * ended < len(self.live) if self.preallocated else ended < len(self.live)
            logits = self._step() if few else self._regroup()
            self.rows.sample(logits, self.choose, stops)

    def _step(self) -> torch.Tensor:
        """The logits (rows, V) of the next column."""
        self.end += 1
        return self._decode(len(self.live))

    def _decode(self, count: int) -> torch.Tensor:
        """The logits (count, V) after the newest token of the first `count` rows."""
        return self._read(self.rows.newest(count), slice(0, count), 0)

    def _regroup(self) -> torch.Tensor:
        """Drop the rows that have ended and take up waiting prompts: the logits (rows, V) of all that are live then."""
        self._collect()
        kept = (~self.rows.ended).nonzero().squeeze(1)
        taken = self.rows.taken[kept].tolist()
        self.live = [self.live[row] for row in kept.tolist()]
        lengths = [len(self.prompts[number]) + count for number, count in zip(self.live, taken, strict=True)]
        fresh = self._take_up(max(lengths, default=0))
        lengths += [len(self.prompts[number]) for number in fresh]
        self.live += fresh
        self.rows = self.rows.replaced(kept, _Rows.new([self.seeds[number] for number in fresh], self.steps, self.device))
        self.end = max(lengths)
        self.size = len(lengths), self.end + self.steps - (0 if fresh else min(taken))
        self.starts = torch.tensor([self.end - length for length in lengths], device=self.device)
        if self.preallocated and self.cache is not None:
            self.cache.move(kept, *self.size, self.end - 1)
        else:
            self.cache = make_cache(self.model.config, *self.size)
            if self.shared:
                self._read_shared()
        return torch.cat([*([self._decode(len(taken))] if taken else []), *self._prefill(fresh)])

    def _collect(self) -> None:
        """Keep the answers of the rows that have ended."""
        ended = self.rows.ended.nonzero().squeeze(1)
        for row, answer in zip(ended.tolist(), self.rows.answers(ended, self.stop, self.logprobs), strict=True):
            self.answers[self.live[row]] = answer

    def _take_up(self, width: int) -> list[int]:
        """As many waiting prompts as fit beside the live rows, which are `width` tokens long so far; one where none is live."""
        if not self.waiting:
            return []
        room = self.max_tokens // ((width or len(self.prompts[self.waiting[0]])) + self.steps) - len(self.live)
        count = max(room, 0 if self.live else 1)
        fresh, self.waiting = self.waiting[:count], self.waiting[count:]
        return fresh

    def _prefill(self, fresh: Sequence[int]) -> list[torch.Tensor]:
        """The logits (rows, V) after the prompts of the last rows, read in parts of similar length: little is padding."""
        lengths, before = [len(self.prompts[number]) for number in fresh], len(self.live) - len(fresh)
        if self.preallocated:
            parts = length_batches([length - self.shared for length in lengths], None, self.pass_tokens)
        else:
            parts = [list(range(len(fresh)))] if fresh else []
        logits = []
        for part in parts:
            longest, rows = lengths[part[0]], slice(before + part[0], before + part[-1] + 1)
            if self.shared:
                self.cache.begin_with_prefix(rows, self.starts[rows])
            # A shorter prompt's part of the shared tokens is read again where the longest one's own tokens stand.
            ids, _ = pad([self.prompts[fresh[row]][self.shared - longest :] for row in part], self.pad_id, side="left")
            logits.append(self._read(ids.to(self.device), rows, self.end - longest))
        return logits

    def _read_shared(self) -> None:
        """Read what all prompts begin with, in the first row, and keep it."""
        ids = torch.tensor([self.prompts[0][: self.shared]], device=self.device)
        self.cache.open(slice(0, 1), 0, self.shared, self.shared)
        self.model(input_ids=ids, use_cache=True, logits_to_keep=1, **{self.cache_name: self.cache})
        self.cache.keep_prefix(self.shared)

    def _read(self, input_ids: torch.Tensor, rows: slice, begin: int) -> torch.Tensor:
        """Logits (rows, V) after `input_ids`, which end at the column `end`; the columns before `begin` are all padding."""
        new, starts = input_ids.shape[1], self.starts[rows, None]
        columns = torch.arange(begin, self.end, device=self.device)
        if self.preallocated:
            self.cache.open(rows, begin, self.end, new)
        mask = (columns >= starts).long()
        output = self.model(
            input_ids=input_ids,
            # A state alone has no columns that a mask could hide, but those of its input.
            attention_mask=mask if self.cache_name == ATTENTION_CACHE else mask[:, -new:] if new > 1 else None,
            position_ids=(columns[-new:] - starts).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
            **{self.cache_name: self.cache},
        )
        return output.logits[:, -1].float()


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, short of the last of any; 0 where too little would be saved."""
    limit = min((len(prompt) - 1 for prompt in prompts), default=0)
    count = next((place for place in range(limit) if len({prompt[place] for prompt in prompts}) > 1), limit)
    return count if count * (len(prompts) - 1) >= WORTH_A_PASS else 0


def _keys_follow_length(config: Any) -> bool:
    """Whether rotary embeddings change with the length of what is read: keys of a short pass aren't those of a long one.

    So do dynamic NTK scaling and LongRoPE (Ding et al., 2024, arXiv 2402.13753).
    """
    types = str(getattr(config.get_text_config(), "rope_parameters", None))
    return "dynamic" in types or "longrope" in types
