"""What a plan's problems say, in words of plans and not of the libraries that find them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import PlanError
from harness.plan import Graph, check, parse_document
from harness.plugins import load_plugins

PLAN = """\
name: x
base: {type: tiny}
data: {toy: {source: toy}}
stages: {sft: {aligner: sft, init: base, data: toy}}
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("dpo: {aligner", "dpo: {lora: true, aligner", "stages.dpo.lora: expected a mapping, not True; write `lora: {}` for the defaults"),
        ("dpo: {aligner", "dpo: {lora: 8, aligner", "stages.dpo.lora: expected a mapping, not 8"),
        ("dpo: {aligner", "dpo: {args: [1], aligner", "stages.dpo.args: expected a mapping"),
        ("{held: {data: toy.test}", "{held: true", "evaluate.suites.held: expected a mapping, not True"),
        ("candidates: [dpo, ppo]", "candidates: []", "evaluate.candidates: is empty; name at least one"),
        ("truth: {judge: toy-truth}", "truth: 3", "evaluate.judges.truth: expected a mapping, not 3"),
        ("name: small", "name: 123", "name: input should be a valid string, not 123; put it in quotes"),
        ("name: small", "name: true", "name: input should be a valid string, not True; put it in quotes"),
        ("dpo: {aligner", "base: {aligner: sft, init: base, data: toy.train}\n  dpo: {aligner",
         "stages.base: `base` is the starting model; choose another name"),
    ],
)  # fmt: skip
def test_a_problem_in_plain_words(resolve: Callable[..., Graph], old: str, new: str, told: str) -> None:
    with pytest.raises(PlanError) as caught:
        resolve((old, new))
    assert [f"{each.path}: {each.text}" for each in caught.value.problems] == [told]


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "\ta: 1\n"])
def test_a_tab_is_called_one(text: str) -> None:
    with pytest.raises(PlanError, match="indent with spaces, not tabs"):
        parse_document(text, "plan.yaml")


def test_a_plugin_that_was_left_out_is_named_where_something_is_unknown() -> None:
    registry = load_plugins(["aligners"]).registry()
    with pytest.raises(PlanError) as caught:
        check(parse_document(PLAN, "plan.yaml"), registry)
    assert str(caught.value) == (
        "plan.yaml:4: stages.sft.aligner: unknown aligner 'sft'; plugin 'aligners', which may bring it, was left out"
    )
