"""Shared prompts give the numbers of separate sequences, on several architectures; and where they cannot, pairs are padded."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from transformers import (  # noqa: E402
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)

from harness.components import Compute  # noqa: E402
from harness.engine import likelihood  # noqa: E402
from harness.engine.chat import TokenizedPair  # noqa: E402
from harness.engine.pairs import (  # noqa: E402
    PairLayout,
    choose_layout,
    collate_pairs,
    pair_logprobs,
    pair_scores,
    read_all,
)

pytestmark = pytest.mark.torch

CPU = Compute("cpu", "fp32", 1)
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 120}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LLAMA = {**SMALL, **SPECIAL, "num_key_value_heads": 2}
SHARED, PADDED = PairLayout(), PairLayout(shared=False)


def make(kind, config):
    torch.manual_seed(3)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)  # distributions far from uniform
    return model


POLICIES = {
    "llama": lambda: make(LlamaForCausalLM, LlamaConfig(**LLAMA)),
    "llama, eager": lambda: make(LlamaForCausalLM, LlamaConfig(**LLAMA, attn_implementation="eager")),
    "qwen2": lambda: make(Qwen2ForCausalLM, Qwen2Config(**LLAMA)),
    "gpt2": lambda: make(
        GPT2LMHeadModel, GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=120, n_positions=64, **SPECIAL)
    ),
    "gpt-neox": lambda: make(GPTNeoXForCausalLM, GPTNeoXConfig(**SMALL, **SPECIAL)),
    "gemma2, soft-capped": lambda: make(
        Gemma2ForCausalLM, Gemma2Config(**LLAMA, head_dim=8, sliding_window=512, final_logit_softcapping=3.0)
    ),
}


@pytest.fixture(scope="module")
def pairs() -> list[TokenizedPair]:
    draw = torch.Generator().manual_seed(11)

    def ids(count: int) -> list[int]:
        return torch.randint(3, 120, (count,), generator=draw).tolist()

    return [TokenizedPair(ids(p), ids(c), ids(r)) for p, c, r in ((7, 3, 9), (1, 1, 1), (12, 8, 2), (4, 5, 5))]


def test_the_layout_of_a_pair_by_hand():
    batch = collate_pairs([TokenizedPair([5, 6], [7, 8], [9])], pad_id=0, device="cpu")
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 2]]
    # The prompt's last token, place 1, predicts the first token of either answer.
    assert batch.predicts.tolist() == [1, 2, 1]
    assert batch.answer_ids.tolist() == [7, 8, 9]
    assert batch.answers.tolist() == [0, 0, 1]
    assert batch.ends.tolist() == [3, 4]
    assert batch.visible[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def test_shared_prompts_take_fewer_tokens():
    pair = TokenizedPair([1] * 10, [2] * 3, [3] * 5)
    assert SHARED.lengths([pair]) == [18]
    assert PADDED.lengths([pair]) == [30]


@pytest.mark.parametrize("name", POLICIES)
def test_log_probabilities_are_those_of_separate_sequences(name, pairs):
    model = POLICIES[name]()
    layout = choose_layout(model, pair_logprobs, 0, CPU, max_length=64)
    assert layout == SHARED
    with torch.no_grad():
        alone = [
            [
                float(
                    model(torch.tensor([[*pair.prompt_ids, *answer]]))
                    .logits[0, len(pair.prompt_ids) - 1 : -1]
                    .log_softmax(-1)
                    .gather(-1, torch.tensor(answer)[:, None])
                    .sum()
                )
                for answer in (pair.chosen_ids, pair.rejected_ids)
            ]
            for pair in pairs
        ]
    for each in (SHARED, PADDED):
        assert torch.allclose(
            read_all(pair_logprobs, model, pairs, each, 0, CPU), torch.tensor(alone), rtol=1e-5, atol=1e-4
        )


@pytest.mark.parametrize("name", POLICIES)
def test_gradients_are_those_of_separate_sequences(name, pairs):
    model = POLICIES[name]()
    gradients = []
    for layout in (SHARED, PADDED):
        model.zero_grad()
        chosen, rejected = pair_logprobs(model, pairs, layout, 0, CPU)
        (chosen - 0.5 * rejected).sum().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for parameter, expected in gradients[1].items():
        assert torch.allclose(gradients[0][parameter], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("kind", "config"), [(LlamaForSequenceClassification, LlamaConfig), (Qwen2ForSequenceClassification, Qwen2Config)]
)
def test_two_rewards_come_from_one_row(kind, config, pairs):
    model = make(kind, config(**LLAMA, num_labels=1))
    assert choose_layout(model, pair_scores, 0, CPU, max_length=64) == SHARED
    with torch.no_grad():
        # transformers itself scores a row at its last token.
        alone = [
            [
                float(model(torch.tensor([[*pair.prompt_ids, *answer]])).logits)
                for answer in (pair.chosen_ids, pair.rejected_ids)
            ]
            for pair in pairs
        ]
    for layout in (SHARED, PADDED):
        assert torch.allclose(read_all(pair_scores, model, pairs, layout, 0, CPU), torch.tensor(alone), atol=1e-5)


def test_numbers_do_not_depend_on_the_pairs_beside(pairs):
    model = POLICIES["llama"]()
    together = read_all(pair_logprobs, model, pairs, SHARED, 0, CPU)
    alone = torch.cat([read_all(pair_logprobs, model, [pair], SHARED, 0, CPU) for pair in pairs])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("layout", [SHARED, PADDED], ids=["shared", "padded"])
def test_logits_in_chunks_change_neither_loss_nor_gradient(pairs, monkeypatch, layout):
    model = POLICIES["gemma2, soft-capped"]()
    found = []
    for limit in (2**26, 120 * 7):
        monkeypatch.setattr(likelihood, "MAX_LOGITS", limit)
        model.zero_grad()
        chosen, rejected = pair_logprobs(model, pairs, layout, 0, CPU)
        (chosen - rejected).sum().backward()
        found.append((chosen.detach(), rejected.detach(), model.model.embed_tokens.weight.grad.clone()))
    for whole, chunked in zip(*found, strict=True):
        assert torch.allclose(whole, chunked, atol=1e-5)


@pytest.mark.parametrize("layout", [SHARED, PADDED], ids=["shared", "padded"])
def test_chunks_really_hold_no_more_than_they_may(pairs, monkeypatch, layout):
    model = POLICIES["llama"]()
    seen = []
    model.lm_head.register_forward_hook(lambda *seen_by_hook: seen.append(seen_by_hook[2].shape[0]))
    monkeypatch.setattr(likelihood, "MAX_LOGITS", 120 * 7)
    pair_logprobs(model, pairs, layout, 0, CPU)
    assert max(seen) == 7
    compared = 0 if layout.shared else 2  # one token, as the model has it and as it is in chunks
    assert sum(seen) == sum(len(pair.chosen_ids) + len(pair.rejected_ids) for pair in pairs) + compared


def test_a_sliding_window_shorter_than_the_rows_falls_back(pairs):
    """The mask is obeyed and the window silently dropped, so that a short probe passes: only the configuration tells."""
    model = make(MistralForCausalLM, MistralConfig(**LLAMA, sliding_window=6))
    layout = choose_layout(model, pair_logprobs, 0, CPU, max_length=64)
    assert not layout.shared
    assert layout.reason == "its attention slides over 6 tokens, fewer than max_length"
    shared, padded = (read_all(pair_logprobs, model, pairs, each, 0, CPU) for each in (SHARED, PADDED))
    assert not torch.allclose(shared, padded, atol=1e-2)


def test_a_window_over_places_in_the_row_falls_back(pairs):
    """GPT-Neo's local layers count places, not positions: the chosen answer would push the prompt out of the other's window."""
    sizes = {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 120,
        "attention_types": [[["global", "local"], 1]],
    }
    model = make(GPTNeoForCausalLM, GPTNeoConfig(**sizes, **SPECIAL, window_size=20, max_position_embeddings=128))
    layout = choose_layout(model, pair_logprobs, 0, CPU, max_length=20)  # as long as the window: only the row is longer
    assert layout.reason == "its attention sees 20 places of a row (window_size), which may have twice max_length"
    assert choose_layout(model, pair_logprobs, 0, CPU, max_length=10) == SHARED
    found = [read_all(pair_logprobs, model, pairs, each, 0, CPU) for each in (SHARED, PADDED)]
    assert torch.allclose(found[0][:, 0], found[1][:, 0], atol=1e-4)
    assert not torch.allclose(found[0][:, 1], found[1][:, 1], atol=1e-3)


def test_a_sliding_window_that_no_row_exceeds_is_shared():
    model = make(MistralForCausalLM, MistralConfig(**LLAMA, sliding_window=64))
    assert choose_layout(model, pair_logprobs, 0, CPU, max_length=64) == SHARED


def test_a_recurrent_model_falls_back(pairs):
    model = make(
        MambaForCausalLM, MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=120, state_size=4, **SPECIAL)
    )
    layout = choose_layout(model, pair_logprobs, 0, CPU, max_length=64)
    assert not layout.shared
    with torch.no_grad():
        expected = [
            float(
                model(torch.tensor([[*pair.prompt_ids, *pair.rejected_ids]]))
                .logits[0, len(pair.prompt_ids) - 1 : -1]
                .log_softmax(-1)
                .gather(-1, torch.tensor(pair.rejected_ids)[:, None])
                .sum()
            )
            for pair in pairs
        ]
    found = read_all(pair_logprobs, model, pairs, layout, 0, CPU)
    assert torch.allclose(found[:, 1], torch.tensor(expected), rtol=1e-5, atol=1e-4)


def test_positions_that_follow_from_the_place_fall_back():
    """ALiBi counts places in the row and knows no position ids."""
    model = make(BloomForCausalLM, BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=120, **SPECIAL))
    layout = choose_layout(model, pair_logprobs, 0, CPU, max_length=64)
    assert not layout.shared
    assert layout.reason is not None


def test_flash_attention_falls_back_before_it_is_tried():
    model = POLICIES["llama"]()
    model.config._attn_implementation = "flash_attention_2"
    layout = choose_layout(model, pair_logprobs, 0, CPU, max_length=64)
    assert layout.reason == "its attention, flash_attention_2, takes no such mask"


def test_the_probe_leaves_the_model_as_it_was():
    model = POLICIES["llama"]().train()
    choose_layout(model, pair_logprobs, 0, CPU, max_length=64)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_scores_are_not_rounded_to_bf16(pairs):
    """The head is read in fp32: bf16 would leave eight bits of a score, and margins are differences of scores."""
    model, compute = make(LlamaForSequenceClassification, LlamaConfig(**LLAMA, num_labels=1)), Compute("cpu", "bf16", 1)
    for layout in (SHARED, PADDED):
        scores = torch.cat(pair_scores(model, pairs, layout, 0, compute))
        assert scores.dtype == torch.float32
        assert (scores != scores.bfloat16().float()).any()
    read = read_all(pair_scores, model, pairs, SHARED, 0, compute)
    assert (read != read.bfloat16().float()).any()
