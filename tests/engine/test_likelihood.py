"""Log-probabilities and divergences: right by a plain forward pass, whatever the batch."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
from transformers import LlamaForCausalLM  # noqa: E402

from harness.engine.chat import TokenizedConversation  # noqa: E402
from harness.engine.learning import AnswerLikelihood  # noqa: E402
from harness.engine.likelihood import (  # noqa: E402
    TokenSequence,
    answer_divergence,
    chosen_logprobs,
    collate,
    measure_answers,
    token_logprobs,
)

pytestmark = pytest.mark.torch

SEQUENCES = [
    TokenSequence([3, 20, 30], [40, 50, 1]),
    TokenSequence([3, 20, 30, 60, 70, 80, 90, 100], [41]),
    TokenSequence([3], [0, 0, 55, 65, 75, 85, 1]),  # an answer that contains the pad token
    TokenSequence([3, 33], [44, 1]),
]


@pytest.fixture
def reference(policy):
    other = copy.deepcopy(policy[0])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return other


def plain(model, sequence):
    """Log-probabilities (R, V) of every token at the answer's positions, by an unbatched, unpadded pass."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*sequence.prompt_ids, *sequence.answer_ids]])).logits[0]
    start = len(sequence.prompt_ids) - 1
    return logits[start : start + len(sequence.answer_ids)].log_softmax(-1)


@pytest.mark.parametrize("max_tokens", [1, 24, 4096])
def test_token_logprobs(policy, compute, max_tokens):
    model, _ = policy
    results = token_logprobs(model, SEQUENCES, compute, pad_id=0, max_tokens=max_tokens)
    for sequence, logprobs in zip(SEQUENCES, results, strict=True):
        expected = plain(model, sequence).gather(1, torch.tensor(sequence.answer_ids).unsqueeze(1)).squeeze(1)
        assert torch.allclose(logprobs, expected, atol=1e-5)


@pytest.mark.parametrize("max_tokens", [1, 4096])
def test_divergence_by_its_definition(policy, reference, compute, max_tokens):
    model, _ = policy
    results = answer_divergence(model, reference, SEQUENCES, compute, pad_id=0, max_tokens=max_tokens)
    for sequence, result in zip(SEQUENCES, results, strict=True):
        p, q = plain(model, sequence), plain(reference, sequence)
        ids = torch.tensor(sequence.answer_ids).unsqueeze(1)
        difference = (q - p).gather(1, ids)
        assert result.logprob == pytest.approx(p.gather(1, ids).sum().item(), abs=1e-4)
        assert result.ref_logprob == pytest.approx(q.gather(1, ids).sum().item(), abs=1e-4)
        assert result.kl == pytest.approx((p.exp() * (p - q)).sum().item(), abs=1e-4)
        assert result.k3 == pytest.approx((difference.exp() - 1 - difference).sum().item(), abs=1e-4)
        assert result.kl > 0


def test_a_model_does_not_diverge_from_itself(policy, compute):
    model, _ = policy
    for result in answer_divergence(model, model, SEQUENCES, compute, pad_id=0):
        assert (result.kl, result.k3) == (0.0, 0.0)


def test_logits_that_do_not_fit_are_split(policy, compute, monkeypatch):
    model, _ = policy
    whole = token_logprobs(model, SEQUENCES, compute, pad_id=0)
    monkeypatch.setattr("harness.engine.likelihood.MAX_LOGITS", 3 * model.config.vocab_size)
    split = token_logprobs(model, SEQUENCES, compute, pad_id=0)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(whole, split, strict=True))


def test_fine_tuning_holds_no_more_logits_than_it_may(policy, compute, monkeypatch):
    model = copy.deepcopy(policy[0])
    rows = [TokenizedConversation(list(each.prompt_ids), list(each.answer_ids)) for each in SEQUENCES]
    objective, found, sizes = AnswerLikelihood(model, rows, 0, compute), [], []
    model.get_output_embeddings().register_forward_hook(lambda *seen: sizes.append(len(seen[2])))
    for limit in (1000, 3):
        monkeypatch.setattr("harness.engine.likelihood.MAX_LOGITS", limit * model.config.vocab_size)
        model.zero_grad()
        losses, measured = objective.losses(range(len(rows)))
        losses.sum().backward()
        found.append((losses.detach(), measured["correct"], model.get_input_embeddings().weight.grad.clone()))
    assert sizes[0] == sum(len(row.answer_ids) for row in rows)
    assert max(sizes[1:]) == 3
    for whole, chunked in zip(*found, strict=True):
        assert torch.allclose(whole, chunked, atol=1e-5)


class Louder(LlamaForCausalLM):
    """Does something to its logits that no configuration tells of."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = 2 * output.logits
        return output


def test_what_a_model_does_to_its_logits_is_kept_where_they_do_not_fit(policy, monkeypatch):
    model = Louder(policy[0].config)
    model.load_state_dict(policy[0].state_dict())
    batch = collate(SEQUENCES, 0, "cpu")
    with torch.no_grad():
        whole = measure_answers(model, batch)
        monkeypatch.setattr("harness.engine.likelihood.MAX_LOGITS", 3 * model.config.vocab_size)
        assert torch.allclose(measure_answers(model, batch), whole, atol=1e-5)
        ordinary = measure_answers(policy[0], batch, lambda logits, ids: chosen_logprobs(2 * logits, ids))
    assert torch.allclose(ordinary, whole, atol=1e-5)
