"""Questions to a language model, each asked once: from the kept replies where they have it, else from the endpoint."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

import harness

from .llm_account import Account
from .llm_client import Endpoint, Failed
from .llm_options import EndpointOptions, PerMillion
from .llm_prompts import Messages
from .llm_verdict import PARSER, Form, Unread, read_reply


@dataclass(frozen=True)
class Question:
    """What a judge reads, and the form of the last line that is expected of it. `vote` tells repeated questions apart."""

    messages: Messages
    form: Form
    vote: int = 0

    def key(self, options: EndpointOptions) -> str:
        """SHA-256 of all that a reply depends on: the filled-in template, so both answers in their order; model; sampling."""
        identity = {
            "messages": [dict(each) for each in self.messages],
            "form": {"head": self.form.head, "words": dict(self.form.words)},
            "parser": PARSER,
            "model": options.model,
            "sampling": options.sampling(),
            "vote": self.vote,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class KeptReply(BaseModel):
    """A reply that was read, as it is kept: what it counts and how that was read, its words, and what it cost in dollars."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    value: float
    by: str
    text: str
    model: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    price_per_million: PerMillion | None = None


def ask_all(
    questions: Sequence[Question], options: EndpointOptions, account: Account, context: harness.JudgeContext
) -> list[KeptReply | Unread]:
    """What each question was answered, in order.

    Equal questions are asked once: by way of `context.cache` what was read, by way of `account` what was not, so that only
    another run asks that again.
    """
    keys = [question.key(options) for question in questions]
    wanted = dict(zip(keys, questions, strict=True))
    frozen = read_bundle(context.folder / options.judgements) if options.judgements is not None else None
    kept = context.cache if frozen is None else frozen
    found: dict[str, KeptReply | Unread] = {}
    for key in wanted:
        if (document := kept.get(key)) is not None and (reply := _valid(document)) is not None:
            found[key] = reply
        elif frozen is None and key in account.in_vain:
            found[key] = account.in_vain[key]
    missing = {key: question for key, question in wanted.items() if key not in found}
    if frozen is not None:
        reason = f"{options.judgements} has no reply to this question"
        found |= {key: Unread(reason) for key in missing}
    elif missing:
        before = (account.calls, account.dollars)
        try:
            asyncio.run(_ask_missing(missing, options, account, context, found))
        finally:
            priced = options.price() is not None
            context.charge(account.calls - before[0], account.dollars - before[1] if priced else None)
    _tell([*found.values()], context, frozen is None)
    return [found[key] for key in keys]


def _tell(found: Sequence[KeptReply | Unread], context: harness.JudgeContext, again: bool) -> None:
    """Tell the user how many questions have no reading and why, and that replies came from more than one model."""
    unread = [each for each in found if isinstance(each, Unread)]
    if unread:
        (kind, count), *others = Counter(each.kind for each in unread).most_common()
        reasons = list(dict.fromkeys(each.reason for each in unread if each.kind == kind))
        like = "" if len(reasons) == 1 else " like this one"
        more = f", and {len(others)} other reason{'s' if len(others) > 1 else ''}" if others else ""
        nothing = "it judges nothing here: " if len(unread) == len(found) else ""
        hint = "; the next run asks them again" if again else ""
        context.note(
            f"{nothing}{len(unread)} of {len(found)} questions have no reading, {count} of them{like}: {reasons[0]}{more}{hint}"
        )
    models = sorted({each.model for each in found if isinstance(each, KeptReply)})
    if len(models) > 1:
        context.note(f"its replies come from several models: {', '.join(models)}; give a dated name")


async def _ask_missing(
    missing: Mapping[str, Question],
    options: EndpointOptions,
    account: Account,
    context: harness.JudgeContext,
    found: dict[str, KeptReply | Unread],
) -> None:
    account.open()
    price = options.price_per_million or (PerMillion(**vars(known)) if (known := options.price()) else None)
    async with Endpoint(options, account) as endpoint:

        async def ask(key: str, question: Question) -> None:
            answer = await endpoint.ask(question.messages)
            if isinstance(answer, Failed):
                found[key] = unread = Unread(answer.reason)
                if answer.sent:
                    account.in_vain[key] = unread
            elif isinstance(reading := read_reply(answer.reply, question.form, endpoint.without_key), Unread):
                found[key] = account.in_vain[key] = reading
            else:
                reply = answer.reply
                found[key] = kept = KeptReply(
                    value=reading.value,
                    by=reading.by,
                    text=endpoint.without_key(reply.text),
                    model=endpoint.without_key(reply.model),
                    input_tokens=reply.input_tokens,
                    output_tokens=reply.output_tokens,
                    cost=answer.dollars,
                    price_per_million=price,
                )
                context.cache[key] = kept.model_dump(mode="json")
            context.progress(len(found), total)

        total = len(found) + len(missing)
        (first, *rest) = missing.items()
        await ask(*first)  # alone: it tells whether there is a key, a model and log-probabilities
        try:
            async with asyncio.TaskGroup() as tasks:
                for key, question in rest:
                    tasks.create_task(ask(key, question))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # such as a disk that is full; the others are its like


def read_bundle(path: Path) -> dict[str, Mapping[str, Any]]:
    """Kept replies by key, from a file of JSON lines or every such file in a folder. Raises UsageError."""
    replies: dict[str, Mapping[str, Any]] = {}
    for file in sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]:
        for number, line in enumerate(_lines(file), 1):
            try:
                document = json.loads(line)
                replies[document["key"]] = document
                KeptReply.model_validate(document)
            except (ValueError, KeyError, TypeError, ValidationError):
                raise harness.UsageError(
                    f"{file}:{number}: is no kept reply; give what a run left under replies/"
                ) from None
    if not replies:
        raise harness.UsageError(f"{path}: holds no kept reply; give what a run left under replies/")
    return replies


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8") as lines:
            yield from (line for line in lines if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise harness.UsageError(
            f"{file}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}; paths count from the plan's folder"
        ) from None


def _valid(document: Mapping[str, Any]) -> KeptReply | None:
    try:
        return KeptReply.model_validate(document)
    except ValidationError:
        return None
