"""Batched sampling with a key-value cache; every answer follows from its own prompt and seed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import DynamicCache

from .batching import length_batches, pad
from .models import autocast

if TYPE_CHECKING:
    from ..components import Compute


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
    max_rows: int = 64,
    max_tokens: int = 16384,
) -> list[Generated]:
    """One answer per prompt, in order. Temperature 0 is greedy decoding.

    Row i's randomness is one uniform number per step, drawn from seeds[i], and inverse-CDF sampling: an answer depends on
    its prompt and seed, not on the prompts beside it, up to rounding. Log-probabilities are those of the distribution at
    `temperature` (1 when greedy), before top-p. `max_tokens` bounds rows × (prompt + new tokens) of a batch.
    """
    results: list[Generated] = [Generated((), "length")] * len(prompts)
    lengths = [len(prompt) + max_new_tokens for prompt in prompts]
    for rows in length_batches(lengths, max_rows, max_tokens):
        batch = _Batch(model, [prompts[row] for row in rows], [seeds[row] for row in rows], max_new_tokens, pad_id, compute)
        with torch.inference_mode():
            answers = batch.run(frozenset(stop), temperature, top_p, logprobs)
        for row, answer in zip(rows, answers, strict=True):
            results[row] = answer
    return results


def sample_tokens(logits: torch.Tensor, uniforms: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """One token per row: logits (B, V) and uniform numbers (B,) in [0, 1) → (B,) token ids.

    The token is the first whose cumulative probability exceeds the uniform number. Sums are float64, so that a large
    vocabulary loses nothing. Top-p keeps the smallest set of likeliest tokens that has at least that probability (Holtzman
    et al., 2020).
    """
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits / temperature).softmax(-1)
    if top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1, dtype=torch.float64) - ordered
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered.masked_fill(before >= top_p, 0.0))
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    point = uniforms.unsqueeze(-1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)


class _Batch:
    """Prompts on their way: padded on the left, so that all rows write their next token into the same column."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        max_new_tokens: int,
        pad_id: int,
        compute: Compute,
    ) -> None:
        device = compute.device
        ids, mask = pad(prompts, pad_id, side="left")
        self.model, self.compute, self.steps = model, compute, max_new_tokens
        self.size, self.width = ids.shape
        self.input_ids = ids.to(device)
        self.mask = torch.cat([mask, mask.new_ones(self.size, max_new_tokens)], dim=1).to(device)
        self.positions = (mask.cumsum(-1) - 1).clamp(min=0).to(device)
        self.uniforms = torch.stack([_uniforms(seed, max_new_tokens) for seed in seeds]).to(device)
        self.rows = torch.arange(self.size, device=device)
        self.done = torch.zeros(self.size, dtype=torch.bool, device=device)
        self.cache = DynamicCache(config=model.config)

    def run(self, stop: frozenset[int], temperature: float, top_p: float, logprobs: bool) -> list[Generated]:
        """Sample until every row has stopped or all steps are taken."""
        stops = torch.tensor(sorted(stop), device=self.rows.device)
        tokens = torch.zeros(self.size, self.steps, dtype=torch.long, device=self.rows.device)
        chosen = torch.zeros(self.size, self.steps, device=self.rows.device)
        taken = 0
        for step in range(self.steps):
            logits = self._forward(step)
            token = sample_tokens(logits, self.uniforms[:, step], temperature, top_p)
            tokens[self.rows, step] = token
            if logprobs:
                scaled = (logits / (temperature or 1.0)).log_softmax(-1)
                chosen[self.rows, step] = scaled.gather(-1, token.unsqueeze(-1)).squeeze(-1)
            taken = step + 1
            self.done |= torch.isin(token, stops)
            finished = int(self.done.sum())
            if finished == len(self.rows):
                break
            self.input_ids, self.positions = token.unsqueeze(-1), self.positions[:, -1:] + 1
            if 2 * finished >= len(self.rows):
                self._keep((~self.done).nonzero().squeeze(-1))
        return _cut(tokens[:, :taken].tolist(), chosen[:, :taken].tolist() if logprobs else None, stop)

    def _forward(self, step: int) -> torch.Tensor:
        with autocast(self.compute):
            output = self.model(
                input_ids=self.input_ids,
                attention_mask=self.mask[:, : self.width + step],
                position_ids=self.positions,
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
