"""Pairs for the judge `llm`, and what it says of them at an endpoint."""

from __future__ import annotations

from typing import Any

from harness_plugins.judges.llm import LlmOptions
from harness_plugins.judges.llm_options import EndpointOptions

import harness
from harness.components import Compute

COMPUTE = Compute("cpu", "fp32", 1)
KEY = "sk-loopback-0123456789abcdef"


def options(url: str, **given: Any) -> LlmOptions:
    return LlmOptions.model_validate({"model": "judge", "base_url": url, "timeout": 5, "max_retries": 0, **given})


def pair(number: int, candidate: str, baseline: str) -> harness.Pair:
    return harness.Pair((harness.Message(role="user", content=f"Question {number}?"),), candidate, baseline)


def pairs(count: int) -> list[harness.Pair]:
    """Pairs in turn won by the longer candidate and lost by the shorter one."""
    return [pair(n, "word " * (3 if n % 2 else 1) + str(n), "word " * 2 + str(n)) for n in range(count)]


def judged(
    judge: harness.Judge, asked: list[harness.Pair], config: EndpointOptions, **context: Any
) -> list[harness.Verdict]:
    return list(judge.compare(asked, config, {}, harness.JudgeContext(COMPUTE, "gpt", **context)))
