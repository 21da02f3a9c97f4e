"""A language model as a judge, behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

import harness

from .llm_account import Account
from .llm_calls import KeptReply, Question, ask_all, read_bundle
from .llm_forecast import cautions, forecast
from .llm_options import EndpointOptions
from .llm_prompts import JudgePrompt, Messages, conversation, fence, fenced, load_template, template_problem, template_text
from .llm_usage import usage
from .llm_verdict import VERDICT, Unread

PLACEHOLDERS = ("conversation", "first", "second", "rubric")
RUBRIC = (
    "Better is the answer that helps the user more with what was asked: it does what the last message asks for, it is "
    "correct, and it is easy to follow. What is invented, evasive or harmful makes an answer worse."
)


class LlmOptions(EndpointOptions):
    """Options of the judge `llm`."""

    template: str = Field(
        default="pairwise-v1", description="the judge's prompt: packaged (pairwise-v1, pairwise-reasons-v1), or a file"
    )
    rubric: str = Field(default=RUBRIC, description="what makes an answer better, in words")
    rubrics: dict[str, str] = Field(default_factory=dict, description="rubrics of single suites, by the suite's name")
    votes: int = Field(default=1, ge=1, le=99, description="how often each order is asked; the mean counts")

    @model_validator(mode="after")
    def _votes(self) -> LlmOptions:
        if self.votes > 1 and not self.temperature:
            raise ValueError("votes: at temperature 0 every vote is the same; raise `temperature`")
        return self


class Llm(harness.Judge):
    """Asks a language model which of two answers is better, each pair in both orders.

    The preference is the mean of the two orders, read from the log-probabilities of the verdict where the endpoint gives
    them, else from the reply's last line. A pair that lacks a readable reply is unscored.
    """

    name = "llm"
    Config = LlmOptions

    def __init__(self) -> None:
        self._account: Account | None = None

    def check(self, config: LlmOptions, folder: Path, suites: Sequence[str]) -> Iterator[str]:
        """A template or a file of judgements that cannot be read, and rubrics of suites that do not exist."""
        yield from check_files(config, config.template, PLACEHOLDERS, folder)
        for suite in config.rubrics:
            if suite not in suites:
                yield f"rubrics: no suite named {suite!r}; there are {', '.join(suites) or 'none'}"

    def caution(self, config: LlmOptions) -> str | None:
        """A key that is not set, and a budget that is not given."""
        return cautions(config)

    def fingerprint(self, config: LlmOptions, folder: Path) -> dict[str, Any]:
        """The contents of the files that the options name."""
        return fingerprint(config, config.template, folder)

    def forecast(self, config: LlmOptions, folder: Path, workload: harness.Workload) -> str:
        """Calls, tokens and dollars."""
        template = load_template(config.template, folder, PLACEHOLDERS)
        sizes = [
            (_messages(template, prompt, "", "", config.rubrics.get(suite, config.rubric)), 2 * workload.answer_tokens)
            for suite, prompts in _asked(workload)
            for prompt in prompts
        ]
        return forecast(config, sizes, 2 * config.votes)

    def compare(
        self,
        pairs: Sequence[harness.Pair],
        config: LlmOptions,
        inputs: Mapping[str, harness.Artifact],
        context: harness.JudgeContext,
    ) -> list[harness.Verdict]:
        """One verdict per pair, over both orders; unscored with a reason where a reply is missing or cannot be read."""
        if self._account is None:
            self._account = Account(config.budget_calls, config.budget_usd)
        template = load_template(config.template, context.folder, PLACEHOLDERS)
        rubric = config.rubrics.get(context.suite or "", config.rubric)
        questions = [
            Question(_messages(template, pair.prompt, first, second, rubric), VERDICT, vote)
            for pair in pairs
            for first, second in ((pair.candidate, pair.baseline), (pair.baseline, pair.candidate))
            for vote in range(config.votes)
        ]
        replies = ask_all(questions, config, self._account, context)
        size = 2 * config.votes
        return [verdict(replies[start : start + size], config.votes) for start in range(0, len(replies), size)]


def _asked(workload: harness.Workload) -> Iterator[tuple[str, Sequence[harness.Prompt]]]:
    """The prompts of a suite, once for every two models that are compared, and those of the canaries."""
    for suite, prompts in workload.prompts.items():
        yield suite, [*prompts] * workload.comparisons
    yield from workload.canaries.items()


def verdict(replies: Sequence[KeptReply | Unread], votes: int) -> harness.Verdict:
    """One verdict from the replies to both orders, `votes` for each, the candidate first in the first half.

    A reply's value is the preference for what was shown first. Whoever is shown first may gain from it: only both orders
    together make a preference, so one that is unread leaves the pair unscored.
    """
    halves = (replies[:votes], replies[votes:])
    orders = []
    for first, half in zip(("candidate", "baseline"), halves, strict=True):
        values = [each.value for each in half if isinstance(each, KeptReply)]
        preference = sum(values) / votes if len(values) == votes else None
        if preference is not None and first == "baseline":
            preference = 1 - preference
        orders.append({"first": first, "preference": preference})
    unread = [each.reason for each in replies if isinstance(each, Unread)]
    known = [float(order["preference"]) for order in orders if order["preference"] is not None]
    spent, cost = usage(replies)
    return harness.Verdict(
        preference=None if unread else sum(known) / 2,
        reason=unread[0] if unread else None,
        cost=cost,
        orders=tuple(orders),
        usage=spent,
        final=not unread,
    )


def _messages(template: JudgePrompt, prompt: harness.Prompt, first: str, second: str, rubric: str) -> Messages:
    asked = conversation(prompt)
    code = fence(asked, first, second)
    return template.fill(
        {
            "rubric": rubric,
            "conversation": fenced("conversation", asked, code),
            "first": fenced("answer A", first, code),
            "second": fenced("answer B", second, code),
        }
    )


def check_files(config: EndpointOptions, template: str, placeholders: Sequence[str], folder: Path) -> Iterator[str]:
    """What is wrong with the files that the options name, each after its option."""
    if problem := template_problem(template, folder, placeholders):
        yield f"template: {problem}"
    if config.judgements is not None:
        try:
            read_bundle(folder / config.judgements)
        except harness.UsageError as error:
            yield f"judgements: {error}"


def fingerprint(config: EndpointOptions, template: str, folder: Path) -> dict[str, Any]:
    """The hash of the template's text, and of the kept replies that stand in for the endpoint."""
    found = {"template": hashlib.sha256(template_text(template, folder).encode()).hexdigest()}
    if config.judgements is not None:
        replies = read_bundle(folder / config.judgements)
        found["judgements"] = hashlib.sha256(
            "\n".join(f"{key} {replies[key]}" for key in sorted(replies)).encode()
        ).hexdigest()
    return found
