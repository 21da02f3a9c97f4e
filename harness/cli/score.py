"""`harness score`: a reward model's scores for new answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..compute import choose_compute
from ..errors import UsageError
from ..records import Message, Prompt
from ..store import check_result
from .models import find_model, read_json_line, store_option


@click.command("score", short_help="Score answers with a reward model.")
@click.argument("model")
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--max-length", type=click.IntRange(16), default=1024, show_default=True, help="Tokens of prompt and answer.")
@click.option("--trust-remote-code", is_flag=True, help="Let a model run the code that its folder brings.")
@store_option
def command(model: str, file: Any, max_length: int, trust_remote_code: bool, store: Path) -> None:
    """Score the answers in FILE with a reward model; "-" reads standard input.

    MODEL is a model folder, or RUN:STAGE, such as latest:reward. FILE holds JSON lines {"prompt", "answer"}, the prompt as text or
    chat messages; each is printed with a "reward". An answer that is over-long gets null.
    """
    folder = find_model(model, "reward-model", store)
    check_result(folder)
    try:
        lines = [(number, line) for number, line in enumerate(file, 1) if line.strip()]
    except UnicodeDecodeError as error:
        raise UsageError(f"{file.name}: not UTF-8 ({error.reason}); save it as UTF-8") from None
    if not lines:
        raise UsageError(f'{file.name}: is empty; expected JSON lines {{"prompt": …, "answer": …}}')
    rows = [read_json_line(line, number, ("prompt", "answer"), file.name) for number, line in lines]
    prompts = [_messages(row["prompt"], file.name, number) for number, row in enumerate(rows, 1)]
    if bad := next((number for number, row in enumerate(rows, 1) if not isinstance(row["answer"], str)), None):
        raise UsageError(f"{file.name}: row {bad}: answer: expected text")

    from ..engine.models import load_reward_model, use_threads
    from ..engine.score import score_answers

    compute = replace(choose_compute(), trust_remote_code=trust_remote_code)
    use_threads(compute)
    reward_model, tokenizer = load_reward_model(folder, compute)
    scores = score_answers(reward_model, tokenizer, prompts, [row["answer"] for row in rows], max_length, compute)
    for row, score in zip(rows, scores, strict=True):
        click.echo(json.dumps({**row, "reward": score}, ensure_ascii=False))


def _messages(value: Any, file: str, number: int) -> Prompt:
    if isinstance(value, str):
        return (Message(role="user", content=value),)
    try:
        messages = tuple(Message.model_validate(each) for each in value)
    except (TypeError, ValueError):
        messages = ()
    if not messages:
        raise UsageError(f"{file}: row {number}: prompt: expected text or chat messages [{{role, content}}…]")
    return messages
