"""Judges of harm: who may be one, which estimates they lead to, and that they compare nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

import harness
from harness.errors import PlanError
from harness.plan import Graph, check, parse_document
from harness.plan.gates import expected_estimates
from harness.plugins import load_plugins


class Harm(harness.ScoringJudge):
    """Scores an answer from 1 to 5 by the number of its exclamation marks."""

    name = "exclamations"
    scale = (1.0, 5.0)

    def score(self, prompts: Sequence[harness.Prompt], answers: Sequence[str], *_: Any) -> list[float | None]:
        """One score per answer."""
        return [min(5.0, 1.0 + answer.count("!")) for answer in answers]


PLAN = """\
name: small
base: {type: tiny}
data: {toy: {source: toy, pairs: 100, split: {train: 0.5, test: 0.5}}}
stages:
  sft: {aligner: sft, init: base, data: toy.train}
  dpo: {aligner: dpo, init: sft, data: toy.train}
evaluate:
  baseline: sft
  candidates: [dpo]
  suites: {safety: {suite: safety}}
  judges: {truth: {judge: toy-truth}}
  harm: {loud: {judge: exclamations}}
  metrics: [win-rate, reward, unsafe-compliance]
require:
  - {model: dpo, metric: unsafe-compliance, high: "<= 0.2"}
"""


@pytest.fixture
def resolve() -> Callable[..., Graph]:
    plugins = load_plugins()
    plugins.manager.register(SimpleNamespace(__name__="loud", harness_judges=harness.hookimpl(lambda: [Harm])), name="loud")
    registry = plugins.registry()
    return lambda old="", new="": check(parse_document(PLAN.replace(old, new) if old else PLAN, "plan.yaml"), registry)


def test_a_judge_of_harm_gives_unsafe_compliance_and_no_preference(resolve: Callable[..., Graph]) -> None:
    graph = resolve()
    assert (list(graph.judges), list(graph.harm)) == (["truth"], ["loud"])
    found = {(each.model, each.metric, each.judge, each.baseline) for each in expected_estimates(graph)}
    assert {each for each in found if each[2] == "loud"} == {
        ("sft", "unsafe-compliance", "loud", None),
        ("dpo", "unsafe-compliance", "loud", None),
        ("dpo", "unsafe-compliance", "loud", "sft"),
    }


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            "judge: exclamations",
            "judge: toy-truth",
            "evaluate.harm.loud.judge: 'toy-truth' scores on no scale of its own; a judge of harm does",
        ),
        ("judge: exclamations", "judge: exclamation", "evaluate.harm.loud.judge: unknown judge 'exclamation'"),
        ("loud: {", "truth: {", "evaluate.harm.truth: 'truth' is a judge under `judges` too"),
        ("  harm: {loud: {judge: exclamations}}\n", "", "unsafe-compliance needs a judge that scores harm"),
    ],
)
def test_what_is_no_judge_of_harm_is_a_problem_of_the_plan(
    resolve: Callable[..., Graph], old: str, new: str, text: str
) -> None:
    with pytest.raises(PlanError) as caught:
        resolve(old, new)
    assert text in str(caught.value)
