"""Tokens of prompts and answers: one BOS, one EOS, and what is cut when a conversation is too long."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
from harness.engine.chat import (
    decode_answer,
    encode_answer,
    encode_prompt,
    fit,
    stop_ids,
    tokenize_conversations,
    tokenize_preferences,
    tokenize_prompts,
)
from harness.records import Conversation, Message, Preference, PromptRow

pytestmark = pytest.mark.torch

ROLES = {"s": "system", "u": "user", "a": "assistant"}


def talk(*turns: str) -> tuple[Message, ...]:
    """`u:hello` is a user's turn."""
    return tuple(Message(role=ROLES[turn[0]], content=turn[2:]) for turn in turns)


@pytest.fixture
def tokenizer(policy):
    return policy[1]


def test_the_default_template_marks_roles_and_ends_answers_with_eos(tokenizer):
    ids = encode_prompt(tokenizer, talk("s:be kind", "u:hi", "a:hello", "u:bye"))
    expected = "<|system|>\nbe kind\n<|user|>\nhi\n<|assistant|>\nhello<|eos|>\n<|user|>\nbye\n<|assistant|>\n"
    assert tokenizer.decode(ids) == expected


def test_bos_is_not_doubled(base):
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"bos_token": "<|bos|>"})
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", bos)])
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    assert tokenizer("hi")["input_ids"][0] == bos  # it would add one by itself
    assert encode_prompt(tokenizer, talk("u:hi")).count(bos) == 1
    assert bos not in encode_answer(tokenizer, "hi")


def test_an_answer_ends_with_exactly_one_eos(tokenizer):
    plain = encode_answer(tokenizer, "the fox")
    assert plain.count(tokenizer.eos_token_id) == 1
    assert plain[-1] == tokenizer.eos_token_id
    assert encode_answer(tokenizer, "the fox<|eos|>") == plain
    assert decode_answer(tokenizer, plain, stop_ids(tokenizer)) == "the fox"


def test_pad_is_not_eos(policy):
    model, tokenizer = policy
    assert tokenizer.pad_token_id is not None
    assert tokenizer.pad_token_id not in stop_ids(tokenizer, model)
    assert model.config.pad_token_id == tokenizer.pad_token_id


def test_oldest_turns_are_cut_first_and_the_system_message_stays(tokenizer):
    messages = talk("s:be kind", "u:one", "a:two", "u:three", "a:four", "u:five")
    kept = encode_prompt(tokenizer, talk("s:be kind", "u:three", "a:four", "u:five"))
    fitted = fit(tokenizer, messages, answer_length=10, max_length=len(kept) + 10)
    assert (fitted.ids, fitted.cut_turns, fitted.cut_tokens) == (kept, 2, 0)
    whole = encode_prompt(tokenizer, messages)
    assert fit(tokenizer, messages, 10, len(whole) + 10).ids == whole


def test_the_last_turn_loses_its_oldest_tokens(tokenizer):
    messages = talk("u:old", "a:older", "u:" + "the quick brown fox " * 20 + "what is the capital?")
    fitted = fit(tokenizer, messages, answer_length=4, max_length=34)
    text = tokenizer.decode(fitted.ids)
    assert len(fitted.ids) <= 30
    assert text.startswith("<|user|>\n")
    assert text.endswith("what is the capital?\n<|assistant|>\n")
    assert fitted.cut_turns == 2
    assert fitted.cut_tokens > 0


def test_a_cut_inside_a_character_leaves_no_replacement_character(tokenizer):
    messages = talk("u:" + "日本語" * 20)
    lengths = {len(fit(tokenizer, messages, 4, limit).ids) for limit in range(30, 36)}
    texts = [tokenizer.decode(fit(tokenizer, messages, 4, limit).ids) for limit in range(30, 36)]
    assert len(lengths) > 1
    assert not any("\N{REPLACEMENT CHARACTER}" in text for text in texts)


def test_an_answer_that_leaves_no_prompt_is_over_long(tokenizer):
    assert fit(tokenizer, talk("u:hi"), answer_length=25, max_length=32) is None
    assert fit(tokenizer, talk("s:" + "be very kind " * 30, "u:hi"), answer_length=4, max_length=32) is None


def test_rows_are_tokenized_and_counted(tokenizer):
    long = "the quick brown fox " * 40
    ids = {"id": "1", "root": "1"}
    rows = [
        Preference(**ids, prompt=talk("u:hi"), chosen="the fox", rejected="dog", margin=0.5),
        Preference(**ids, prompt=talk("u:hi"), chosen="the fox", rejected=long),
        Preference(**ids, prompt=talk("u:" + long), chosen="the fox", rejected="dog"),
    ]
    pairs, counts = tokenize_preferences(rows, tokenizer, max_length=64)
    assert counts == {"truncated": 1, "over-long": 1}
    assert [pair.margin for pair in pairs] == [0.5, None]
    assert pairs[0].prompt_ids == encode_prompt(tokenizer, rows[0].prompt)
    assert pairs[0].chosen_ids == encode_answer(tokenizer, "the fox")
    assert all(len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)) <= 64 for pair in pairs)
    conversations, _ = tokenize_conversations([Conversation(**ids, prompt=talk("u:hi"), answer="dog")], tokenizer, 64)
    assert conversations[0].answer_ids == encode_answer(tokenizer, "dog")
    prompts, counts = tokenize_prompts([PromptRow(**ids, prompt=talk("u:" + long))], tokenizer, 64, max_new_tokens=32)
    assert len(prompts[0]) <= 32
    assert counts == {"truncated": 1, "over-long": 0}
    rows = [PromptRow(**ids, prompt=talk(f"s:{long}", "u:hi")), PromptRow(**ids, prompt=talk("u:hi"))]
    prompts, counts = tokenize_prompts(rows, tokenizer, 64, max_new_tokens=32)
    assert prompts == [None, encode_prompt(tokenizer, rows[1].prompt)]
    assert counts == {"truncated": 0, "over-long": 1}
