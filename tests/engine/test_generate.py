"""Sampling: from the right distribution, by the prompt's own seed, whatever stands beside it."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from harness.engine.generate import generate, sample_tokens  # noqa: E402
from harness.engine.likelihood import TokenSequence, token_logprobs  # noqa: E402

pytestmark = pytest.mark.torch

PROMPTS = [[3, 20, 30], [3, 40], [3, 50, 60, 70, 80, 90, 100], [3, 20, 30, 41, 42], [3], [3, 77, 78, 79]]


def run(policy, compute, prompts=PROMPTS, seeds=range(6), **options):
    model, tokenizer = policy
    defaults = {"max_new_tokens": 24, "stop": set(range(100, 160)), "pad_id": tokenizer.pad_token_id}
    return generate(model, prompts, list(seeds), compute, **(defaults | options))


def test_an_answer_does_not_depend_on_its_batch(policy, compute):
    together = run(policy, compute)
    alone = run(policy, compute, max_tokens=1)
    reordered = run(policy, compute, prompts=PROMPTS[::-1], seeds=list(range(6))[::-1])[::-1]
    assert len({len(answer.ids) for answer in together}) > 2  # some rows stop early and leave the batch
    assert [answer.ids for answer in together] == [answer.ids for answer in alone] == [answer.ids for answer in reordered]


def test_waiting_prompts_take_the_places_of_answers_that_have_ended(policy, compute):
    model, _ = policy
    prompts = [[3, 20 + row] for row in range(40)]
    rows = []
    handle = model.register_forward_pre_hook(
        lambda _module, _args, kwargs: rows.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    try:
        answers = run(policy, compute, prompts=prompts, seeds=range(40), max_tokens=8 * (2 + 24))
    finally:
        handle.remove()
    alone = run(policy, compute, prompts=prompts, seeds=range(40), max_tokens=1)
    assert [answer.ids for answer in answers] == [answer.ids for answer in alone]
    assert sum(count for count, new in rows if new > 1) == 40  # each prompt is read once
    reads = [place for place, (_, new) in enumerate(rows) if new > 1]
    # A few prompts at a time, in the pass after that of the rows on their way, which have grown by up to 24 tokens: at least
    # 8 · 26 // (26 + 24) = 4 rows fit, and at most the 8 that fitted at first.
    assert len(reads) > 10
    assert {rows[place - 1][1] for place in reads[1:]} == {1}
    assert all(4 <= rows[place - 1][0] + rows[place][0] <= 8 for place in reads[1:-1])


@pytest.mark.parametrize(("max_tokens", "rows"), [(16384, 10), (3 * (67 + 24), 4), (1, 1)])
def test_what_all_prompts_begin_with_is_read_once(policy, compute, max_tokens, rows):
    model, _ = policy
    shared = [3, *range(20, 79)]
    prompts = [shared + [40 + row] * (row % 8) for row in range(10)]
    read = []
    handle = model.register_forward_pre_hook(
        lambda _module, _args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        answers = run(policy, compute, prompts=prompts, seeds=range(10), max_tokens=max_tokens, logprobs=True)
    finally:
        handle.remove()
    # 59 tokens once, since of the shortest prompt the last one must be read, and up to 8 more of each prompt; the shorter
    # they are, the more rows fit. One row at a time, no row is left over when the next prompt is taken up.
    assert read[0] == 59
    assert max(read[1:]) <= rows * 8
    # Alone, nothing is shared.
    alone = [run(policy, compute, [prompt], [seed], logprobs=True)[0] for seed, prompt in enumerate(prompts)]
    for expected, answer in zip(alone, answers, strict=True):
        assert answer.ids == expected.ids
        assert answer.logprobs == pytest.approx(expected.logprobs, abs=1e-5)


def test_the_seed_decides(policy, compute):
    first, again, other = (run(policy, compute, seeds=seeds) for seeds in (range(6), range(6), range(6, 12)))
    assert first == again
    assert all(a.ids != b.ids for a, b in zip(first, other, strict=True))


def test_an_answer_ends_at_its_first_stop_token(policy, compute):
    stop = set(range(100, 160))
    for answer in run(policy, compute, stop=stop):
        assert not stop & set(answer.ids[:-1])
        assert (answer.finish == "stop") == (answer.ids[-1] in stop)
        assert answer.finish == "stop" or len(answer.ids) == 24


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_logprobs_are_those_of_one_forward_pass(policy, compute, temperature):
    model, tokenizer = policy
    answers = run(policy, compute, temperature=temperature, logprobs=True)
    sequences = [TokenSequence(prompt, answer.ids) for prompt, answer in zip(PROMPTS, answers, strict=True)]
    expected = token_logprobs(model, sequences, compute, pad_id=tokenizer.pad_token_id, temperature=temperature)
    for answer, logprobs in zip(answers, expected, strict=True):
        assert answer.logprobs == pytest.approx(logprobs.tolist(), abs=1e-4)


def test_greedy_takes_the_likeliest_token(policy, compute):
    model, _ = policy
    answer = run(policy, compute, prompts=[[3, 20, 30]], seeds=[0], temperature=0.0, stop=set(), max_new_tokens=5)[0]
    ids = [3, 20, 30]
    with torch.no_grad():
        for _ in range(5):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    assert list(answer.ids) == ids[3:]


@pytest.mark.parametrize("max_tokens", [1, 60, 16384])
def test_greedy_answers_are_those_of_transformers_one_at_a_time(policy, compute, max_tokens):
    model, tokenizer = policy
    stop = set(range(100, 160))
    answers = run(policy, compute, temperature=0.0, max_tokens=max_tokens)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        whole = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=24,
            eos_token_id=sorted(stop),
            pad_token_id=tokenizer.pad_token_id,
        )
        assert list(answer.ids) == whole[0, len(prompt) :].tolist()


@pytest.mark.parametrize("prefill", [1, 12, 4096])
def test_logprobs_do_not_depend_on_the_batch(policy, compute, monkeypatch, prefill):
    alone = run(policy, compute, max_tokens=1, logprobs=True)
    monkeypatch.setattr("harness.engine.inference.CPU_PASS_TOKENS", prefill)
    for expected, answer in zip(alone, run(policy, compute, logprobs=True), strict=True):
        assert answer.ids == expected.ids
        assert answer.logprobs == pytest.approx(expected.logprobs, abs=1e-5)


@pytest.mark.parametrize("top_p", [1.0, 0.7])
@pytest.mark.parametrize("size", [3, 256, 900, 1025])
def test_sampling_is_the_inverse_cdf(size, top_p):
    generator = torch.Generator().manual_seed(size)
    logits = 3 * torch.randn(200, size, generator=generator)
    uniforms = torch.rand(200, generator=generator, dtype=torch.float64)
    sampled = sample_tokens(logits, uniforms, 1.0, top_p).tolist()
    for row, uniform, token in zip(logits.double().softmax(-1).tolist(), uniforms.tolist(), sampled, strict=True):
        kept, mass = set(), 0.0
        for each in sorted(range(size), key=lambda each: -row[each]):
            if mass < top_p:
                kept.add(each)
                mass += row[each]
        before = sum(row[each] for each in kept if each < token)
        assert token in kept
        assert before - 1e-6 <= uniform * mass < before + row[token] + 1e-6  # fp32 probabilities


def test_what_has_no_probability_is_never_sampled():
    # Three blocks of 256, of which the first and the last weigh nothing, and the second a half at each of two places.
    logits = torch.full((4, 768), float("-inf"))
    logits[:, [300, 310]] = 0.0
    uniforms = torch.tensor([0.0, 0.499, 0.5, 1.0], dtype=torch.float64)  # 1 stands for a product that was rounded up
    assert sample_tokens(logits, uniforms, 1.0, 1.0).tolist() == [300, 300, 310, 310]


def test_inverse_cdf_sampling_by_hand():
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().repeat(6, 1)
    uniforms = torch.tensor([0.0, 0.09, 0.11, 0.31, 0.61, 1 - 2**-53], dtype=torch.float64)
    assert sample_tokens(logits, uniforms, 1.0, 1.0).tolist() == [0, 0, 1, 2, 3, 3]
    # top-p 0.6 keeps 0.4 and 0.3: token 2 below 3/7, token 3 above
    assert sample_tokens(logits, uniforms, 1.0, 0.6).tolist() == [2, 2, 2, 2, 3, 3]


def test_the_temperature_sharpens():
    # At temperature 0.5 probabilities are squared: 0.2^2 / (0.2^2 + 0.8^2) = 1/17 = 0.0588
    logits = torch.tensor([[0.2, 0.8]]).log().repeat(2, 1)
    assert sample_tokens(logits, torch.tensor([0.058, 0.060], dtype=torch.float64), 0.5, 1.0).tolist() == [0, 1]
