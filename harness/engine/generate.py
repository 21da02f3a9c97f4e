"""Batched sampling with a key-value cache; every answer follows from its own prompt and seed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F

from .batching import length_batches, pad
from .cache import PreallocatedCache, make_cache
from .inference import cast_once, pass_tokens, run_batches

if TYPE_CHECKING:
    from ..components import Compute

DECODE_TOKENS = 16384
"""Tokens of a batch that is decoded together, prompts and new tokens: its keys and values stay in memory."""


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
    `temperature` (1 when greedy), before top-p. `max_tokens` bounds rows × (prompt + new tokens) of a batch. Raises
    StageError for a prompt that does not fit into memory alone.
    """
    results: list[Generated] = [Generated((), "length")] * len(prompts)

    def work(rows: list[int]) -> None:
        batch = _Batch(model, [prompts[row] for row in rows], [seeds[row] for row in rows], max_new_tokens, pad_id, compute)
        answers = batch.run(frozenset(stop), temperature, top_p, logprobs)
        for row, answer in zip(rows, answers, strict=True):
            results[row] = answer

    with torch.inference_mode(), cast_once(model, compute):
        run_batches([len(prompt) + max_new_tokens for prompt in prompts], max_tokens, compute, work)
    return results


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


class _Batch:
    """Prompts on their way, longest first: padded on the left, so that all rows write their next token into one column."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        max_new_tokens: int,
        pad_id: int,
        compute: Compute,
    ) -> None:
        self.model, self.steps, self.device = model, max_new_tokens, compute.device
        self.pass_tokens = pass_tokens(compute)
        ids, mask = pad(prompts, pad_id, side="left")
        self.size, self.width = ids.shape
        self.begin = 0
        self.lengths = list(map(len, prompts))
        self.input_ids = ids.to(self.device)
        self.mask = F.pad(mask, (0, max_new_tokens), value=1).to(self.device)
        self.positions = (mask.cumsum(-1) - 1).clamp(min=0).to(self.device)
        self.uniforms = torch.stack([_uniforms(seed, max_new_tokens) for seed in seeds]).to(self.device)
        self.rows = torch.arange(self.size, device=self.device)
        self.done = torch.zeros(self.size, dtype=torch.bool, device=self.device)
        self.cache = make_cache(model.config, self.size, self.width + max_new_tokens)

    def run(self, stop: frozenset[int], temperature: float, top_p: float, logprobs: bool) -> list[Generated]:
        """Sample until every row has stopped or all steps are taken."""
        stops = torch.tensor(sorted(stop), device=self.device)
        tokens = torch.zeros(self.size, self.steps, dtype=torch.long, device=self.device)
        chosen = torch.zeros(self.size, self.steps, device=self.device)
        logits = self._prefill()
        for step in range(self.steps):
            token = sample_tokens(logits, self.uniforms[:, step], temperature, top_p)
            tokens[self.rows, step] = token
            if logprobs:
                scaled = (logits / (temperature or 1.0)).log_softmax(-1)
                chosen[self.rows, step] = scaled.gather(-1, token.unsqueeze(-1)).squeeze(-1)
            self.done |= torch.isin(token, stops)
            finished = int(self.done.sum())
            if finished == len(self.rows) or step + 1 == self.steps:
                break
            self.input_ids, self.positions = token.unsqueeze(-1), self.positions[:, -1:] + 1
            if 4 * finished >= len(self.rows):
                self._keep((~self.done).nonzero().squeeze(-1))
            logits = self._forward(slice(None), self.input_ids, self.positions, self.begin, self.width + step + 1)
        return _cut(tokens[:, : step + 1].tolist(), chosen[:, : step + 1].tolist() if logprobs else None, stop)

    def _prefill(self) -> torch.Tensor:
        """The logits (B, V) after the prompts, read in parts of similar length: little of that is padding."""
        parts = [list(range(self.size))]
        if isinstance(self.cache, PreallocatedCache):
            parts = length_batches(self.lengths, None, self.pass_tokens)
        logits = []
        for part in parts:
            rows, begin = slice(part[0], part[-1] + 1), self.width - self.lengths[part[0]]
            logits.append(
                self._forward(rows, self.input_ids[rows, begin:], self.positions[rows, begin:], begin, self.width)
            )
        return torch.cat(logits)

    def _forward(self, rows: slice, input_ids: torch.Tensor, positions: torch.Tensor, begin: int, end: int) -> torch.Tensor:
        """Logits (rows, V) after `input_ids`, which fill the columns up to `end`; columns before `begin` are all padding."""
        if isinstance(self.cache, PreallocatedCache):
            self.cache.open(rows, begin, end, input_ids.shape[1])
        output = self.model(
            input_ids=input_ids,
            attention_mask=self.mask[rows, begin:end],
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float()

    def _keep(self, kept: torch.Tensor) -> None:
        """Go on with some rows only, so that nothing is computed for those that have stopped."""
        self.cache.batch_select_indices(kept)
        self.rows, self.done, self.uniforms = self.rows[kept], self.done[kept], self.uniforms[kept]
        self.mask, self.input_ids, self.positions = self.mask[kept], self.input_ids[kept], self.positions[kept]
        if isinstance(self.cache, PreallocatedCache):
            self.begin = int(self.mask.argmax(-1).min())


def _uniforms(seed: int, count: int) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _cut(tokens: list[list[int]], logprobs: list[list[float]] | None, stop: frozenset[int]) -> list[Generated]:
    """End every row after its first stop token; what stands behind it was sampled for the rows beside it."""
    answers = []
    for row, ids in enumerate(tokens):
        end = next((place + 1 for place, token in enumerate(ids) if token in stop), None)
        values = tuple(logprobs[row][:end]) if logprobs is not None else None
        answers.append(Generated(tuple(ids[:end]), "length" if end is None else "stop", values))
    return answers
