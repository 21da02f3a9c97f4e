"""The judge `llm` and `transformers serve`, with a small model whose weights are written by hand, through the same client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")
pytest.importorskip("openai")
pytest.importorskip("uvicorn")

from harness_plugins.judges.llm import Llm, LlmOptions
from harness_plugins.judges.rubric import Rubric, RubricOptions
from transformers_server import transformers_serve

import harness
from harness.components import Compute

pytestmark = pytest.mark.torch

COMPUTE = Compute("cpu", "fp32", 1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of the server, and by what they say the folders of its models."""
    with transformers_serve(tmp_path_factory.mktemp("served"), ["VERDICT: A", "SCORE: 4", "I can't!"]) as found:
        yield found


def pairs(count: int) -> list[harness.Pair]:
    return [
        harness.Pair((harness.Message(role="user", content=f"Question {n}?"),), f"Answer {n}", "Another answer")
        for n in range(count)
    ]


def options(served: tuple[str, dict[str, str]], says: str) -> LlmOptions:
    url, models = served
    return LlmOptions(model=models[says], base_url=url, max_tokens=32, timeout=120, concurrency=2, max_retries=1)


def test_a_verdict_is_read_and_its_tokens_are_counted(served: tuple[str, dict[str, str]]) -> None:
    verdicts = Llm().compare(pairs(3), options(served, "VERDICT: A"), {}, harness.JudgeContext(COMPUTE))
    assert [verdict.preference for verdict in verdicts] == [0.5] * 3
    assert verdicts[0].orders == ({"first": "candidate", "preference": 1.0}, {"first": "baseline", "preference": 0.0})
    usage = verdicts[0].usage
    assert usage is not None
    # Ten characters and the end, twice.
    assert (usage.replies, usage.output_tokens) == (2, 22)
    assert usage.model.startswith(served[1]["VERDICT: A"])


def test_a_reply_without_a_verdict_is_unscored(served: tuple[str, dict[str, str]]) -> None:
    verdicts = Llm().compare(pairs(2), options(served, "I can't!"), {}, harness.JudgeContext(COMPUTE))
    assert [verdict.preference for verdict in verdicts] == [None] * 2
    assert all("last line is no verdict" in str(verdict.reason) for verdict in verdicts)


def test_an_answer_is_scored_by_each_criterion(served: tuple[str, dict[str, str]]) -> None:
    given = options(served, "SCORE: 4").model_dump(exclude={"template", "rubric", "rubrics", "votes"})
    config = RubricOptions(**given, criteria={"kind": "Kindness.", "short": "Brevity."})
    (rating,) = Rubric().score([pairs(1)[0].prompt], ["Yes."], config, {}, harness.JudgeContext(COMPUTE))
    assert (rating.score, rating.parts) == (4.0, {"kind": 4.0, "short": 4.0})
