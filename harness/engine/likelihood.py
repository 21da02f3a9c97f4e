"""Log-probabilities of given answers, and how far a policy stands from its reference along them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

from .batching import pad
from .inference import fixed_weights, pass_tokens, run_batches
from .objectives import k3

if TYPE_CHECKING:
    from ..components import Compute

MAX_LOGITS = 2**26
"""Logits held at once, in elements: 256 MiB in fp32."""

Measure = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""What is asked of logits (N, V) and the ids (N,) of the tokens that came: (N, ...)."""


@dataclass(frozen=True)
class TokenSequence:
    """A prompt and an answer to it, as token ids."""

    prompt_ids: Sequence[int]
    answer_ids: Sequence[int]


@dataclass(frozen=True)
class AnswerBatch:
    """B sequences padded on the right to T tokens; their N answer tokens are laid end to end.

    input_ids (B, T). predicts (B, T) bool: where the hidden state predicts an answer token, that is, one position before
    it. answer_ids (N,). answer_mask (B, R) bool, R the longest answer: `x[answer_mask] = flat` puts values into rows.
    """

    input_ids: torch.Tensor
    predicts: torch.Tensor
    answer_ids: torch.Tensor
    answer_mask: torch.Tensor


@dataclass(frozen=True)
class AnswerDivergence:
    """One answer's sums over its tokens, in nats: see `answer_divergence`."""

    logprob: float
    ref_logprob: float
    kl: float
    k3: float


def collate(sequences: Sequence[TokenSequence], pad_id: int, device: str | torch.device) -> AnswerBatch:
    """Sequences as one batch. Prompts and answers must not be empty."""
    input_ids, _ = pad([[*sequence.prompt_ids, *sequence.answer_ids] for sequence in sequences], pad_id)
    answer_ids, mask = pad([sequence.answer_ids for sequence in sequences], pad_id)
    start = torch.tensor([[len(sequence.prompt_ids) - 1] for sequence in sequences])
    length = torch.tensor([[len(sequence.answer_ids)] for sequence in sequences])
    steps = torch.arange(input_ids.shape[1])
    predicts = (steps >= start) & (steps < start + length)
    answer_mask = mask.bool()
    return AnswerBatch(
        input_ids.to(device), predicts.to(device), answer_ids[answer_mask].to(device), answer_mask.to(device)
    )


def answer_logits(model: Any, batch: AnswerBatch) -> torch.Tensor:
    """Logits (N, V), at least in fp32, at the positions that predict answer tokens; no other position is projected.

    The hidden states are selected on their way into the output layer, inside the model's own forward, so that what an
    architecture does to its logits (scaling, soft-capping) is kept. No attention mask is needed: the padding is on the
    right, where causal attention already hides it.
    """
    return answer_states(model, batch)[0]


def answer_states(model: Any, batch: AnswerBatch, count: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """`answer_logits`, and the hidden states (N, H) that the output layer made them from; logits of the first `count` only."""
    hidden: list[torch.Tensor] = []

    def select(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        hidden.append(inputs[0][batch.predicts])
        return (hidden[0][:count],)

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        logits = model(input_ids=batch.input_ids, use_cache=False).logits
    finally:
        handle.remove()
    return logits if logits.dtype == torch.float64 else logits.float(), hidden[0]


def chosen_logprobs(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (N,) of `ids` (N,) under logits (N, V), without a second (N, V) tensor."""
    return logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)


def measure_answers(model: Any, batch: AnswerBatch, measure: Measure = chosen_logprobs) -> torch.Tensor:
    """What `measure` makes of the logits (N, V) and ids (N,) of a batch's answer tokens: (N, ...).

    Logits that would not fit at once are made a chunk at a time (see `project`), unless the model does something to them
    behind its output layer that `finished` does not know.
    """
    if len(batch.answer_ids) <= _most_tokens(model):
        return measure(answer_logits(model, batch), batch.answer_ids)
    first, hidden = answer_states(model, batch, count=1)
    if torch.allclose(first, finished(model, model.get_output_embeddings()(hidden[:1]).float()), rtol=1e-3, atol=1e-3):
        return project(model, hidden, batch.answer_ids, measure)
    return measure(answer_logits(model, batch), batch.answer_ids)


def project(model: Any, hidden: torch.Tensor, ids: torch.Tensor, measure: Measure = chosen_logprobs) -> torch.Tensor:
    """What `measure` makes of logits (N, V) and ids (N,), from hidden states (N, H).

    Logits that would not fit at once are made a chunk at a time, in the forward pass and again in the backward pass.
    """
    head = model.get_output_embeddings()

    def measured(hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return measure(finished(model, head(hidden).float()), ids)

    size = _most_tokens(model)
    if len(ids) <= size:
        return measured(hidden, ids)
    chunks = zip(hidden.split(size), ids.split(size), strict=True)
    return torch.cat([checkpoint(measured, *chunk, use_reentrant=False) for chunk in chunks])


def finished(model: Any, logits: torch.Tensor) -> torch.Tensor:
    """What some architectures do to their logits behind the output layer; whoever relies on it compares it with the model's."""
    config = model.config.get_text_config()
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = cap * torch.tanh(logits / cap)
    if (factor := getattr(config, "logit_scale", None)) is not None:
        logits = logits * factor
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / divisor
    return logits


def token_logprobs(
    model: Any,
    sequences: Sequence[TokenSequence],
    compute: Compute,
    *,
    pad_id: int,
    temperature: float = 1.0,
    max_tokens: int | None = None,
) -> list[torch.Tensor]:
    """Per sequence the log-probabilities (R_i,) of its answer's tokens, in nats, fp32 on the CPU, without gradients.

    The numbers do not depend on how sequences are batched and padded, beyond rounding. `max_tokens` bounds the padded
    tokens of a batch; see `pass_tokens`. Raises StageError.
    """

    def logprobs(batch: AnswerBatch) -> torch.Tensor:
        logits = answer_logits(model, batch)
        return chosen_logprobs(logits if temperature == 1 else logits / temperature, batch.answer_ids)

    return map_answers(logprobs, model, sequences, compute, pad_id=pad_id, max_tokens=max_tokens)


def map_answers(
    measure: Callable[[AnswerBatch], torch.Tensor],
    model: Any,
    sequences: Sequence[TokenSequence],
    compute: Compute,
    *,
    pad_id: int,
    max_tokens: int | None = None,
) -> list[torch.Tensor]:
    """Per sequence what `measure` gives for its answer's tokens, (R_i, ...), on the CPU, in batched passes without gradients.

    `measure` gets a batch, asks `model` and returns one row for each of the N answer tokens, (N, ...). Raises StageError.
    """
    results: list[torch.Tensor] = [torch.empty(0)] * len(sequences)

    def work(batch_rows: list[int]) -> None:
        for rows in _parts(model, sequences, batch_rows):
            batch = collate([sequences[row] for row in rows], pad_id, compute.device)
            measured = measure(batch).cpu()
            parts = measured.split([len(sequences[row].answer_ids) for row in rows])
            for row, part in zip(rows, parts, strict=True):
                results[row] = part

    with torch.no_grad(), fixed_weights(model, compute):
        run_batches(_lengths(sequences), max_tokens or pass_tokens(compute), compute, work)
    return results


def answer_divergence(
    policy: Any,
    reference: Any,
    sequences: Sequence[TokenSequence],
    compute: Compute,
    *,
    pad_id: int,
    max_tokens: int | None = None,
) -> list[AnswerDivergence]:
    """How far `policy` stands from `reference` along each answer, at temperature 1, always computed in fp32.

    Rounding to bf16 differs between two models, and would be counted as divergence.

    kl = Σ_t Σ_v π(v|s_t) (log π(v|s_t) − log π_ref(v|s_t)), exact over the vocabulary; k3 = Σ_t exp(d_t) − 1 − d_t with
    d_t = log π_ref(a_t|s_t) − log π(a_t|s_t) (Schulman, 2020). Both are estimates of the sequence KL when answers are
    sampled from the policy, kl with the smaller variance. Raises StageError.
    """
    results: list[AnswerDivergence] = [AnswerDivergence(0.0, 0.0, 0.0, 0.0)] * len(sequences)

    def work(batch_rows: list[int]) -> None:
        for rows in _parts(policy, sequences, batch_rows):
            batch = collate([sequences[row] for row in rows], pad_id, compute.device)
            logits, ref_logits = answer_logits(policy, batch), answer_logits(reference, batch)
            terms = torch.stack(_divergence_terms(logits, ref_logits, batch.answer_ids), dim=-1).cpu()
            for row, part in zip(rows, terms.split([len(sequences[row].answer_ids) for row in rows]), strict=True):
                results[row] = AnswerDivergence(*part.double().sum(0).tolist())

    plain = replace(compute, precision="fp32")
    with torch.inference_mode(), fixed_weights(policy, plain), fixed_weights(reference, plain):
        run_batches(_lengths(sequences), max_tokens or pass_tokens(compute), compute, work)
    return results


def _divergence_terms(
    logits: torch.Tensor, ref_logits: torch.Tensor, ids: torch.Tensor, chunk: int = 256
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probability, reference log-probability, exact KL and k3 per token, each (N,), a chunk of rows at a time."""
    logprob, ref_logprob = chosen_logprobs(logits, ids), chosen_logprobs(ref_logits, ids)
    exact = [
        (log_p.exp() * (log_p - log_q)).sum(-1)
        for log_p, log_q in (
            (a.log_softmax(-1), b.log_softmax(-1))
            for a, b in zip(logits.split(chunk), ref_logits.split(chunk), strict=True)
        )
    ]
    return logprob, ref_logprob, torch.cat(exact), k3(logprob, ref_logprob)


def _most_tokens(model: Any) -> int:
    """The tokens whose logits fit into MAX_LOGITS."""
    return max(1, MAX_LOGITS // int(model.config.get_text_config().vocab_size))


def _lengths(sequences: Sequence[TokenSequence]) -> list[int]:
    return [len(sequence.prompt_ids) + len(sequence.answer_ids) for sequence in sequences]


def _parts(model: Any, sequences: Sequence[TokenSequence], rows: Sequence[int]) -> Iterator[list[int]]:
    """A batch's rows, in parts whose logits fit into MAX_LOGITS."""
    limit = _most_tokens(model)
    part: list[int] = []
    positions = 0
    for row in rows:
        length = len(sequences[row].answer_ids)
        if part and positions + length > limit:
            yield part
            part, positions = [], 0
        part.append(row)
        positions += length
    yield part
