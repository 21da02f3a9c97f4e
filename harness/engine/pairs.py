"""Two answers to one prompt in one row, `[prompt | chosen | rejected]`: the prompt is computed once.

A mask keeps the answers from seeing each other, and each answer's positions go on from the prompt's, so that the numbers are
those of two separate sequences (Wang & Hegde, 2024, arXiv 2410.20305). A model that cannot be read in this way, as a probe and
its configuration tell, gets two padded rows per pair instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..components import Compute
from .chat import TokenizedPair
from .inference import fixed_weights, pass_tokens, run_batches
from .likelihood import TokenSequence, collate, measure_answers, project
from .models import autocast, scalars, token_values

PROMPT, CHOSEN, REJECTED, PADDING = range(4)
PROBE = ((5, 4, 7), (9, 1, 3), (2, 6, 6))
"""Lengths of prompt, chosen and rejected answer of the pairs that a layout is tried on."""

TOLERANCE = 1e-4


@dataclass(frozen=True)
class PairLayout:
    """How pairs become rows. `reason` says why prompts are not shared, where they are not."""

    shared: bool = True
    reason: str | None = None

    def lengths(self, pairs: Sequence[TokenizedPair]) -> list[int]:
        """The tokens that each pair takes in a batch, padding between its own answers included."""
        return [
            len(pair.prompt_ids) + len(pair.chosen_ids) + len(pair.rejected_ids)
            if self.shared
            else 2 * (len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)))
            for pair in pairs
        ]


@dataclass(frozen=True)
class PairBatch:
    """B pairs as rows of T tokens; the N tokens of all 2B answers are laid end to end.

    input_ids and position_ids (B, T). visible (B, 1, T, T) bool: whether a query (third axis) sees a key (fourth). predicts
    (N,): where in the flattened (B·T) positions each answer token is predicted; answer_ids (N,) the token; answers (N,) whose it
    is: b for the chosen answer of pair b, B + b for its rejected one. ends (2B,): the flat position of each answer's last token.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    visible: torch.Tensor
    predicts: torch.Tensor
    answer_ids: torch.Tensor
    answers: torch.Tensor
    ends: torch.Tensor


def collate_pairs(pairs: Sequence[TokenizedPair], pad_id: int, device: str | torch.device) -> PairBatch:
    """Pairs as one batch, padded on the right. Neither prompts nor answers may be empty."""
    size, width = len(pairs), max(PairLayout().lengths(pairs))
    input_ids = torch.full((size, width), pad_id)
    position_ids = torch.zeros((size, width), dtype=torch.long)
    parts = torch.full((size, width), PADDING)
    predicts: list[list[int]] = [[] for _ in range(2 * size)]
    ends = [0] * (2 * size)
    for row, pair in enumerate(pairs):
        begin = len(pair.prompt_ids)
        rejected = begin + len(pair.chosen_ids)
        end = rejected + len(pair.rejected_ids)
        input_ids[row, :end] = torch.tensor([*pair.prompt_ids, *pair.chosen_ids, *pair.rejected_ids])
        position_ids[row, :rejected] = torch.arange(rejected)
        position_ids[row, rejected:end] = torch.arange(begin, begin + end - rejected)
        parts[row, :begin], parts[row, begin:rejected], parts[row, rejected:end] = PROMPT, CHOSEN, REJECTED
        for answer, start, stop in ((row, begin, rejected), (size + row, rejected, end)):
            # The prompt's last token predicts the first token of either answer.
            predicts[answer] = [row * width + place for place in (begin - 1, *range(start, stop - 1))]
            ends[answer] = row * width + stop - 1
    steps = torch.arange(width)
    # Padding comes last and sees whatever stands before it: a row without any key to see would be NaN.
    same = (parts[:, None, :] == PROMPT) | (parts[:, None, :] == parts[:, :, None])
    visible = (steps <= steps[:, None]) & same
    return PairBatch(
        input_ids.to(device),
        position_ids.to(device),
        visible[:, None].to(device),
        torch.tensor([place for places in predicts for place in places], device=device),
        torch.tensor(
            [token for kind in ("chosen_ids", "rejected_ids") for pair in pairs for token in getattr(pair, kind)],
            device=device,
        ),
        torch.tensor([answer for answer, places in enumerate(predicts) for _ in places], device=device),
        torch.tensor(ends, device=device),
    )


def pair_logprobs(
    model: Any, pairs: Sequence[TokenizedPair], layout: PairLayout, pad_id: int, compute: Compute
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the chosen and of the rejected answers, (B,) each: sums over tokens in nats, fp32, on the device."""
    size, device = len(pairs), compute.device
    if layout.shared:
        batch = collate_pairs(pairs, pad_id, device)
        with autocast(compute):
            hidden = _hidden(model, batch).index_select(0, batch.predicts)
            values = project(model, hidden, batch.answer_ids)
        answers = batch.answers
    else:
        rows = _separate(pairs)
        plain = collate(rows, pad_id, device)
        with autocast(compute):
            values = measure_answers(model, plain)
        answers = torch.arange(2 * size, device=device).repeat_interleave(plain.answer_mask.sum(-1))
    sums = torch.zeros(2 * size, device=device, dtype=values.dtype).index_add(0, answers, values)
    return sums[:size], sums[size:]


def pair_scores(
    model: Any, pairs: Sequence[TokenizedPair], layout: PairLayout, pad_id: int, compute: Compute
) -> tuple[torch.Tensor, torch.Tensor]:
    """A reward model's scores of the chosen and of the rejected answers at their last tokens, (B,) each, fp32."""
    size, device = len(pairs), compute.device
    if layout.shared:
        batch = collate_pairs(pairs, pad_id, device)
        with autocast(compute):
            last = _hidden(model, batch).index_select(0, batch.ends)
            scores = scalars(model, last)
    else:
        rows = [[*row.prompt_ids, *row.answer_ids] for row in _separate(pairs)]
        width = max(map(len, rows))
        input_ids = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in rows], device=device)
        ends = torch.tensor([[len(row) - 1] for row in rows], device=device)
        with autocast(compute):
            scores = token_values(model, input_ids).gather(1, ends).squeeze(1)
    return scores[:size], scores[size:]


Reader = Callable[[Any, Sequence[TokenizedPair], PairLayout, int, Compute], tuple[torch.Tensor, torch.Tensor]]


def read_all(
    read: Reader,
    model: Any,
    pairs: Sequence[TokenizedPair],
    layout: PairLayout,
    pad_id: int,
    compute: Compute,
) -> torch.Tensor:
    """`pair_logprobs` or `pair_scores` of many pairs, without gradients: (B, 2) fp32 on the CPU, chosen first.

    Batches follow from the lengths alone, and the numbers do not depend on them beyond rounding. Raises StageError for a pair
    that does not fit into memory alone.
    """
    results = torch.empty(len(pairs), 2)

    def work(rows: list[int]) -> None:
        results[rows] = torch.stack(read(model, [pairs[row] for row in rows], layout, pad_id, compute), dim=-1).cpu()

    with torch.no_grad(), fixed_weights(model, compute):
        run_batches(layout.lengths(pairs), pass_tokens(compute), compute, work)
    return results


def choose_layout(model: Any, read: Reader, pad_id: int, compute: Compute, max_length: int) -> PairLayout:
    """Whether `model` may be read with shared prompts: as its configuration allows, and as a small probe in fp32 confirms.

    `read` is what it will be read with. transformers hands a mask such as ours on to every layer as it is, so that a model with
    a sliding window would obey it and lose its window, unless no sequence is longer than that: a short probe cannot see it.
    """
    reason = _forbidden(model.config.get_text_config(), max_length) or _differs(model, read, pad_id, compute)
    return PairLayout(shared=reason is None, reason=reason)


def _forbidden(config: Any, max_length: int) -> str | None:
    kinds = set(getattr(config, "layer_types", None) or [])
    window = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
    slides = any("sliding" in kind or "chunked" in kind for kind in kinds) if kinds else bool(window)
    if slides and window and getattr(config, "use_sliding_window", True) and window < max_length:
        return f"its attention slides over {window} tokens, fewer than max_length"
    # A window over places in the row, such as GPT-Neo's, would count the tokens of both answers.
    for name, places in config.to_dict().items():
        if name.endswith("window_size") and isinstance(places, int) and 0 < places < 2 * max_length:
            return f"its attention sees {places} places of a row ({name}), which may have twice max_length"
    if others := sorted(kind for kind in kinds if "attention" not in kind or "linear" in kind):
        return f"it has layers of kind {others[0]}, which no mask reaches"
    if "flash" in str(config._attn_implementation):
        return f"its attention, {config._attn_implementation}, takes no such mask"
    return None


def _differs(model: Any, read: Reader, pad_id: int, compute: Compute) -> str | None:
    """Why the two layouts do not agree on a few random pairs; None where they do."""
    vocabulary = model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)

    def draw(length: int) -> list[int]:
        return [int(token) for token in torch.randint(vocabulary, (length,), generator=generator)]

    pairs = [TokenizedPair(draw(prompt), draw(chosen), draw(rejected)) for prompt, chosen, rejected in PROBE]
    with torch.no_grad(), _in_fp32(model, compute) as plain:
        expected = torch.cat(read(model, pairs, PairLayout(shared=False), pad_id, plain))
        try:
            found = torch.cat(read(model, pairs, PairLayout(), pad_id, plain))
        except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            return f"it takes no such mask ({type(error).__name__})"
    if torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
        return None
    return "it gives other numbers under such a mask"


@contextlib.contextmanager
def _in_fp32(model: Any, compute: Compute) -> Iterator[Compute]:
    training = model.training
    model.eval()
    try:
        yield Compute(compute.device, "fp32", compute.threads)
    finally:
        model.train(training)


def _separate(pairs: Sequence[TokenizedPair]) -> list[TokenSequence]:
    return [
        TokenSequence(pair.prompt_ids, answer)
        for answers in (((pair, pair.chosen_ids) for pair in pairs), ((pair, pair.rejected_ids) for pair in pairs))
        for pair, answer in answers
    ]


def _hidden(model: Any, batch: PairBatch) -> torch.Tensor:
    """Hidden states (B·T, H) of the model without its head."""
    mask = batch.visible
    if model.config._attn_implementation != "sdpa":
        # Eager attention adds the mask to its scores, where a bool would count as 0 and 1.
        mask = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, torch.finfo(torch.float32).min)
    output = model.base_model(
        input_ids=batch.input_ids, attention_mask=mask, position_ids=batch.position_ids, use_cache=False
    )
    return output.last_hidden_state.flatten(0, 1)
