"""Chat messages to token ids and back, and fitting a conversation into a context."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError, TemplateSyntaxError

from ..errors import DataError

if TYPE_CHECKING:
    from ..records import Conversation, Message, Preference, PromptRow

MIN_PROMPT_TOKENS = 8
"""No prompt is cut to less than this: an answer that leaves it less room is over-long."""

TRUNCATED, OVER_LONG = "truncated", "over-long"

QUESTION, ANSWER = "How are you?", "Fine, thanks."
"""A conversation that shows what a chat template puts behind an answer."""


@dataclass(frozen=True)
class FittedPrompt:
    """A prompt's token ids, and what was cut from it: its oldest turns, then tokens at the start of its last turn."""

    ids: list[int]
    cut_turns: int = 0
    cut_tokens: int = 0


@dataclass(frozen=True)
class TokenizedPair:
    """A preference as token ids; both answers follow the same prompt. `row` is its place in the data."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    margin: float | None = None
    row: int = 0


@dataclass(frozen=True)
class TokenizedConversation:
    """A prompt and the answer to learn."""

    prompt_ids: list[int]
    answer_ids: list[int]


def encode_prompt(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """A prompt under the chat template, up to where the assistant's answer begins. Raises DataError."""
    return encode_prompts(tokenizer, [messages])[0]


def encode_prompts(tokenizer: Any, prompts: Iterable[Sequence[Message]]) -> list[list[int]]:
    """`encode_prompt` for many prompts at once.

    The template alone decides about BOS; the tokenizer adds none, so it is never doubled.
    """
    texts = [_render(tokenizer, prompt) for prompt in prompts]
    return _encode(tokenizer, texts)


def encode_answer(tokenizer: Any, answer: str) -> list[int]:
    """An answer as it stands after the prompt: nothing in front, and at the end, nowhere else, the token that ends a turn."""
    return encode_answers(tokenizer, [answer])[0]


def encode_answers(tokenizer: Any, answers: Sequence[str]) -> list[list[int]]:
    """`encode_answer` for many answers at once. An end spelled out inside a text is dropped: it would end the answer early."""
    end = end_of_turn(tokenizer)
    ends = {end, tokenizer.eos_token_id}
    return [[*(token for token in ids if token not in ends), end] for ids in _encode(tokenizer, list(answers))]


def end_of_turn(tokenizer: Any) -> int:
    """The token that ends an answer: the one that the chat template puts behind it, as Gemma's <end_of_turn>, else EOS.

    That is the token behind the last answer of a conversation which also stands behind an answer that a question follows: one
    that stands behind either alone begins what comes next.
    """
    ids = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    last, other = ({name for name in ids if text.startswith(name)} for text in _behind_answers(tokenizer))
    return ids[max(last & other, key=len)] if last & other else int(tokenizer.eos_token_id)


def stop_ids(tokenizer: Any, model: Any | None = None) -> frozenset[int]:
    """The tokens that end an answer: EOS, the end of a turn, and those of the model's generation configuration."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    more = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in (tokenizer.eos_token_id, end_of_turn(tokenizer), *more) if token is not None)


def decode_answer(tokenizer: Any, ids: Sequence[int], stop: Collection[int] = ()) -> str:
    """The text of an answer's tokens, without the stop token and other special tokens."""
    body = ids[:-1] if ids and ids[-1] in stop else ids
    return str(tokenizer.decode(list(body), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def fit(
    tokenizer: Any,
    messages: Sequence[Message],
    answer_length: int,
    max_length: int,
    prompt_ids: list[int] | None = None,
) -> FittedPrompt | None:
    """The prompt, cut so that it and an answer of `answer_length` tokens take at most `max_length`.

    Oldest turns go first, whole, and what remains starts with a user's turn; the system message stays. If the last turn
    alone is too long, its oldest tokens go. The answer is never cut: None says that it is over-long, leaving a prompt that
    has to be cut less than MIN_PROMPT_TOKENS or less than the template and the system message take. `prompt_ids` are the
    encoded messages, where the caller has them already.
    """
    budget = max_length - answer_length
    ids = encode_prompt(tokenizer, messages) if prompt_ids is None else prompt_ids
    if len(ids) <= budget:
        return FittedPrompt(ids)
    if budget < MIN_PROMPT_TOKENS:
        return None
    system = [message for message in messages[:1] if message.role == "system"]
    turns = list(messages[len(system) :])
    cut = 0
    for start in range(1, len(turns)):
        if turns[start].role == "user":
            cut, ids = start, encode_prompt(tokenizer, [*system, *turns[start:]])
            if len(ids) <= budget:
                return FittedPrompt(ids, cut_turns=cut)
    return _fit_last_turn(tokenizer, system, turns[cut:], budget, cut) if turns else None


def _fit_last_turn(
    tokenizer: Any, system: Sequence[Message], turns: Sequence[Message], budget: int, cut_turns: int
) -> FittedPrompt | None:
    first, rest = turns[0], turns[1:]
    content = _encode(tokenizer, [first.content])[0]
    excess = len(encode_prompt(tokenizer, [*system, *turns])) - budget
    while 0 < excess <= len(content):
        kept = tokenizer.decode(content[excess:], clean_up_tokenization_spaces=False)
        # A cut inside a character leaves replacement characters in front.
        shorter = first.model_copy(update={"content": kept.lstrip("\N{REPLACEMENT CHARACTER}")})
        ids = encode_prompt(tokenizer, [*system, shorter, *rest])
        if len(ids) <= budget:
            return FittedPrompt(ids, cut_turns=cut_turns, cut_tokens=excess)
        excess += len(ids) - budget
    return None


def tokenize_preferences(
    rows: Sequence[Preference], tokenizer: Any, max_length: int
) -> tuple[list[TokenizedPair], dict[str, int]]:
    """Pairs in the order of their rows, and how many were truncated or left out as over-long. Raises DataError."""
    chosen = encode_answers(tokenizer, [row.chosen for row in rows])
    rejected = encode_answers(tokenizer, [row.rejected for row in rows])
    lengths = [max(map(len, answers)) for answers in zip(chosen, rejected, strict=True)]
    prompts, counts = _fit_all(rows, lengths, tokenizer, max_length)
    pairs = [
        TokenizedPair(prompt.ids, good, bad, row.margin, place)
        for place, (row, prompt, good, bad) in enumerate(zip(rows, prompts, chosen, rejected, strict=True))
        if prompt is not None
    ]
    return pairs, counts


def tokenize_conversations(
    rows: Sequence[Conversation], tokenizer: Any, max_length: int
) -> tuple[list[TokenizedConversation], dict[str, int]]:
    """Conversations in the order of their rows, with counts as in `tokenize_preferences`. Raises DataError."""
    answers = encode_answers(tokenizer, [row.answer for row in rows])
    prompts, counts = _fit_all(rows, list(map(len, answers)), tokenizer, max_length)
    conversations = [
        TokenizedConversation(prompt.ids, answer)
        for prompt, answer in zip(prompts, answers, strict=True)
        if prompt is not None
    ]
    return conversations, counts


def tokenize_prompts(
    rows: Sequence[PromptRow], tokenizer: Any, max_length: int, max_new_tokens: int
) -> tuple[list[list[int] | None], dict[str, int]]:
    """Prompts in the order of their rows, so that they leave room for `max_new_tokens`; None for one that cannot.

    With counts as in `tokenize_preferences`. Raises DataError.
    """
    prompts, counts = _fit_all(rows, [max_new_tokens] * len(rows), tokenizer, max_length)
    return [None if prompt is None else prompt.ids for prompt in prompts], counts


def fit_prompts(
    tokenizer: Any, prompts: Sequence[Sequence[Message]], max_new_tokens: int, max_length: int
) -> list[list[int]]:
    """Prompts as token ids that leave room for `max_new_tokens`. Raises DataError for one that cannot be made to."""
    fitted = [
        fit(tokenizer, prompt, max_new_tokens, max_length, ids)
        for prompt, ids in zip(prompts, encode_prompts(tokenizer, prompts), strict=True)
    ]
    if None in fitted:
        raise DataError(
            f"prompt {fitted.index(None) + 1} leaves no room for {max_new_tokens} new tokens in a context of {max_length}; "
            "lower max_new_tokens or shorten the prompt"
        )
    return [prompt.ids for prompt in fitted if prompt is not None]


def context_length(*models: Any) -> int:
    """How many tokens all `models` were made for; a model whose positions have no end, as ALiBi's, sets no limit."""
    configs = [model.config.get_text_config() for model in models]
    limits = [getattr(config, name, None) for config in configs for name in ("max_position_embeddings", "max_seq_len")]
    return min((int(limit) for limit in limits if limit), default=sys.maxsize)


def _fit_all(
    rows: Sequence[PromptRow], answer_lengths: Sequence[int], tokenizer: Any, max_length: int
) -> tuple[list[FittedPrompt | None], dict[str, int]]:
    encoded = _encode(tokenizer, [_render(tokenizer, row.prompt, f"row {row.id!r}: ") for row in rows])
    fitted = [
        fit(tokenizer, row.prompt, length, max_length, ids)
        for row, length, ids in zip(rows, answer_lengths, encoded, strict=True)
    ]
    cut = sum(1 for prompt in fitted if prompt is not None and (prompt.cut_turns or prompt.cut_tokens))
    return fitted, {TRUNCATED: cut, OVER_LONG: fitted.count(None)}


def _behind_answers(tokenizer: Any) -> tuple[str, str]:
    """What the chat template puts behind the last answer of a conversation, and behind one before a question; "": nothing."""
    talk = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    for before in ([], [{"role": "system", "content": "Be kind."}]) if tokenizer.chat_template else ():
        try:
            last, other = (
                str(tokenizer.apply_chat_template([*before, *talk, *more], tokenize=False)) for more in ([], talk[:1])
            )
        except TemplateError:  # it may ask for a system message, or take no such conversation at all
            continue
        return last.partition(ANSWER)[2].lstrip(), other.partition(ANSWER)[2].lstrip()
    return "", ""


def _render(tokenizer: Any, messages: Sequence[Message], where: str = "") -> str:
    """The text of a conversation. Raises DataError: of the data at `where` if the template refuses them, else of the template."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except TemplateSyntaxError as error:
        text = f"the base's chat_template cannot be compiled, line {error.lineno}: {error.message}; mend the template"
        raise DataError(text) from error
    except TemplateError as error:
        roles = ", ".join(message.role for message in messages)
        if type(error) is TemplateError:  # what its raise_exception raises
            text = f"{where}the chat template refuses a conversation of {roles}: {error}; mend the data"
        else:
            text = f"the base's chat_template fails on a conversation of {roles}: {error}; mend the template"
        raise DataError(text) from error


def _encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
    return list(encoded["input_ids"])
