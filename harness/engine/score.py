"""Scores of answers by a reward model that reads the prompt and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from .batching import pad
from .chat import context_length, encode_answers, encode_prompts, fit
from .inference import fixed_weights, pass_tokens, run_batches
from .models import token_values

if TYPE_CHECKING:
    from ..components import Compute
    from ..records import Message


def score_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    answers: Sequence[str],
    max_length: int,
    compute: Compute,
) -> list[float | None]:
    """One score per answer, whatever answers stand beside it; None for one that is over-long for `max_length` or the model.

    A prompt that does not fit loses its oldest turns, as in training. The same answer to the same prompt is read once: in bf16
    rounding differs with what stands beside it, and would make one of two equal answers better. Raises DataError, StageError.
    """
    max_length = min(max_length, context_length(model))
    answer_ids = encode_answers(tokenizer, answers)
    prompt_ids = encode_prompts(tokenizer, prompts)
    sequences: dict[int, tuple[int, ...]] = {}
    for row, (messages, prompt, answer) in enumerate(zip(prompts, prompt_ids, answer_ids, strict=True)):
        fitted = fit(tokenizer, messages, len(answer), max_length, prompt)
        if fitted is not None:
            sequences[row] = (*fitted.ids, *answer)
    distinct = list(dict.fromkeys(sequences.values()))
    scores = score_sequences(model, distinct, compute, pad_id=tokenizer.pad_token_id)
    known = dict(zip(distinct, scores.tolist(), strict=True))
    return [known[sequences[row]] if row in sequences else None for row in range(len(answers))]


def score_sequences(
    model: Any,
    sequences: Sequence[Sequence[int]],
    compute: Compute,
    *,
    pad_id: int,
    max_tokens: int | None = None,
) -> torch.Tensor:
    """The score at each sequence's last token: (B,) fp32 on the CPU, without gradients, invariant to batching up to rounding.

    `max_tokens` bounds the padded tokens of a batch; see `pass_tokens`. Raises StageError.
    """
    scores = torch.empty(len(sequences))

    def work(rows: list[int]) -> None:
        input_ids, mask = pad([sequences[row] for row in rows], pad_id)
        values = token_values(model, input_ids.to(compute.device)).cpu()
        scores[rows] = values.gather(1, mask.sum(-1, keepdim=True) - 1).squeeze(1)

    with torch.no_grad(), fixed_weights(model, compute):
        run_batches(list(map(len, sequences)), max_tokens or pass_tokens(compute), compute, work)
    return scores
