"""Decoding with the preallocated cache gives what a pass over the whole sequence gives, architecture by architecture."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    JambaConfig,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    MiniMaxConfig,
    MistralConfig,
    OpenAIGPTConfig,
    Qwen2Config,
)

from harness.engine.cache import PreallocatedCache, make_cache  # noqa: E402
from harness.engine.generate import generate  # noqa: E402
from harness.errors import StageError  # noqa: E402

pytestmark = pytest.mark.torch

SIZES = {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, num_key_value_heads=2),
    "qwen2": Qwen2Config(**SIZES, num_key_value_heads=2),
    "gpt2": GPT2Config(vocab_size=120, n_embd=32, n_layer=2, n_head=4),
    "gpt-neox": GPTNeoXConfig(**SIZES),
    "sliding-window": MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=6),
    "alibi": BloomConfig(vocab_size=120, hidden_size=32, n_layer=2, n_head=4, tie_word_embeddings=False),
    "longrope": LlamaConfig(
        **SIZES,
        num_key_value_heads=2,
        max_position_embeddings=200,
        # Prompts of over 70 tokens have other frequencies than what they all begin with alone.
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "factor": 3.0,
            "short_factor": [1.0] * 4,
            "long_factor": [3.0] * 4,
            "original_max_position_embeddings": 70,
        },
    ),
}
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19], [20, 21], [22, 23, 24, 25, 26]]


@pytest.mark.parametrize("shared", [[], list(range(30, 100))], ids=["nothing-shared", "shared-beginning"])
@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_answers_are_those_of_whole_passes(name, shared, compute):
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(4)
    assert isinstance(make_cache(model.config, 1, 1), PreallocatedCache)
    prompts = [shared + prompt for prompt in PROMPTS]
    answers = generate(
        model, prompts, [0] * 5, compute, max_new_tokens=12, stop=set(range(60)), pad_id=0, temperature=0.0, logprobs=True
    )
    assert len({len(answer.ids) for answer in answers}) > 1  # some stop early, and their rows are dropped
    for prompt, answer in zip(prompts, answers, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *answer.ids]]), use_cache=False).logits[
                0, len(prompt) - 1 : -1
            ]
        assert list(answer.ids) == logits.argmax(-1).tolist()
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(answer.ids).unsqueeze(-1)).squeeze(-1)
        assert answer.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


def test_dynamic_rotary_embeddings_are_those_of_the_whole_prompt(compute):
    # Beyond 70 tokens the frequencies follow the length: what all prompts begin with alone has others.
    torch.manual_seed(1)
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    sizes = SIZES | {"num_key_value_heads": 2, "max_position_embeddings": 70}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**sizes, rope_parameters=rope)).eval()
    prompts = [[*range(30, 100), row, row + 1, row + 2] for row in range(5, 10)]
    answers = generate(
        model, prompts, [0] * 5, compute, max_new_tokens=1, stop=set(), pad_id=0, temperature=0.0, logprobs=True
    )
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(prompts)).logits[:, -1].log_softmax(-1).amax(-1)
    assert [answer.logprobs[0] for answer in answers] == pytest.approx(expected.tolist(), abs=1e-6)


def test_the_cache_is_of_one_dtype_and_of_the_size_that_was_asked_for():
    cache = make_cache(CONFIGS["llama"], 3, 10)
    cache.open(slice(1, 3), begin=2, end=6, new=4)
    keys = torch.full((2, 2, 4, 8), 2.0)  # fp32, as rotary embeddings leave them under autocast
    seen, _ = cache.update(keys, keys.bfloat16(), 0)
    assert seen.tolist() == keys.tolist()
    assert (cache.layers[0].keys.dtype, cache.layers[0].keys.shape) == (torch.bfloat16, (3, 2, 10, 8))
    assert cache.layers[0].keys[0].eq(0).all()
    memory = cache.layers[0].keys.data_ptr()
    # The row 2 alone goes on, its last three columns are to end at column 3 of 8, and a row 1 begins beside it.
    cache.move(torch.tensor([2]), rows=2, columns=8, end=3)
    cache.open(slice(0, 1), begin=0, end=4, new=1)
    seen, _ = cache.update(keys[:1, :, :1] + 1, keys[:1, :, :1].bfloat16(), 0)
    assert seen[0, 0, :, 0].tolist() == [2, 2, 2, 3]
    assert cache.layers[0].keys.shape == (2, 2, 8, 8)
    assert cache.layers[0].keys[1].eq(0).all()
    assert cache.layers[0].keys.data_ptr() == memory  # 2 · 8 places fit where 3 · 10 were
    cache.move(torch.tensor([0]), rows=5, columns=9, end=4)
    assert (cache.layers[0].keys.shape, cache.layers[0].keys[0, 0, :, 0].tolist()) == ((5, 2, 9, 8), [2, 2, 2, 3, *[0] * 5])
    assert cache.layers[0].keys[1:].eq(0).all()


def test_recurrent_layers_keep_the_cache_of_transformers(compute):
    torch.manual_seed(1)
    sizes = SIZES | {"num_key_value_heads": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1}
    model = AutoModelForCausalLM.from_config(JambaConfig(**sizes, use_mamba_kernels=False)).eval()
    assert not isinstance(make_cache(model.config, 1, 1), PreallocatedCache)
    prompts = [[5, 6, row] for row in range(7, 14)]
    options = {"max_new_tokens": 6, "stop": set(range(40)), "pad_id": 0, "temperature": 0.0}
    answers = generate(model, prompts, [0] * 7, compute, max_tokens=4 * (3 + 6), **options)  # four, and then three
    assert {answer.finish for answer in answers} == {"stop", "length"}
    for prompt, answer in zip(prompts, answers, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *answer.ids]]), use_cache=False).logits[0, 2:-1]
        assert list(answer.ids) == logits.argmax(-1).tolist()


@pytest.mark.parametrize(
    "config",
    [
        MambaConfig(vocab_size=120, hidden_size=32, num_hidden_layers=2, state_size=8, use_mambapy=False),
        Mamba2Config(
            vocab_size=120, hidden_size=32, num_hidden_layers=2, num_heads=8, head_dim=8, n_groups=2, state_size=16
        ),
    ],
    ids=["mamba", "mamba2"],
)
def test_a_model_of_states_alone_answers_as_alone_and_as_a_whole_pass(config, compute):
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(3)
    answers = generate(
        model, PROMPTS, [0] * 5, compute, max_new_tokens=8, stop=set(range(30)), pad_id=0, temperature=0.0, logprobs=True
    )
    assert max(len(answer.ids) for answer in answers) > 1
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *answer.ids]])).logits[0, len(prompt) - 1 : -1]
        assert list(answer.ids) == logits.argmax(-1).tolist()
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(answer.ids).unsqueeze(-1)).squeeze(-1)
        assert answer.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        OpenAIGPTConfig(vocab_size=120, n_embd=32, n_layer=1, n_head=2),
        MiniMaxConfig(**SIZES, num_key_value_heads=2, head_dim=8, num_local_experts=2),
    ],
    ids=["no-cache", "a-cache-of-its-own"],
)
def test_a_model_that_takes_no_cache_of_ours_is_refused(config, compute):
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(StageError, match=r"^\w+ takes no cache .* take a base of another architecture$"):
        generate(model, PROMPTS, [0] * 5, compute, max_new_tokens=4, stop={1}, pad_id=0)
