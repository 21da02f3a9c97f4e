"""Options of the judges that ask a language model: each mistake is a problem of the plan, at its line, and no key is quoted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import harness
from harness.errors import PlanError
from harness.plan import Graph, check, held_out, parse_document
from harness.plugins import load_plugins

TRUTH = "    truth: {judge: toy-truth}\n"
LINE = 17
"""Where `truth` stands in the small plan, and what is put in its place."""
LOCAL = "judge: llm, model: m, base_url: 'http://localhost:8000/v1'"


def test_the_examples_of_the_documentation_are_valid(resolve: Callable[..., Graph]) -> None:
    for text in (
        "{judge: llm, model: gpt-4o-mini, api_key_env: OPENAI_API_KEY, budget_usd: 2.0}",
        f"{{{LOCAL}, rubrics: {{safety: Decline.}}, votes: 3, temperature: 0.7}}",
        "{judge: rubric, model: m, base_url: 'http://localhost:8000/v1', criteria: {kind: 'Kindness.'}}",
    ):
        assert "truth" in resolve((TRUTH, f"    truth: {text}\n")).judges


@pytest.mark.parametrize(
    ("options", "path", "text"),
    [
        ("judge: llm, model: gpt-4o-mini", "api_key_env", "is missing; name the environment variable"),
        ("judge: llm, model: m, api_key_env: sk-0123secret", "api_key_env", "expected the name of an environment variable"),
        ("judge: llm, model: m, api_key_env: hf_secret", "api_key_env", "and not the key itself"),
        ("judge: llm, model: m, base_url: 'localhost:8000'", "base_url", "expected an address such as https://host/v1"),
        ("judge: llm, model: m, base_url: 'https://me:secret@host/v1'", "base_url", "holds more than an address"),
        ("judge: llm, model: m, base_url: 'https://host/v1?key=secret'", "base_url", "holds more than an address"),
        (f"{LOCAL}, budget_usd: 1", "budget_usd", "needs `price_per_million`"),
        (f"{LOCAL}, votes: 3", "votes", "at temperature 0 every vote is the same"),
        (f"{LOCAL}, api_key: secret", "api_key", 'unknown option; did you mean "api_key_env"?'),
        (f"{LOCAL}, concurrency: 0", "concurrency", "greater than or equal to 1"),
        (f"{LOCAL}, extra: {{n: 5}}", "extra", "n is set by the judge's own options"),
        (f"{LOCAL}, price_per_million: {{input: 1}}", "price_per_million.output", "is missing"),
        (f"{LOCAL}, template: pairwise-v9", "template", "pairwise-v9: cannot be read: No such file or directory; give a file"),
        (f"{LOCAL}, template: rubric-v1", "template", "unknown placeholder $answer; there are $conversation, $first"),
        (f"{LOCAL}, rubrics: {{heldout: x}}", "rubrics", "no suite named 'heldout'; there are held, safety"),
        (f"{LOCAL}, judgements: gone.jsonl", "judgements", "gone.jsonl: cannot be read: No such file or directory"),
        (f"{LOCAL.replace('llm', 'rubric')}, criteria: {{}}", "criteria", "is empty; name at least one"),
        ("judge: llm", "model", "is missing"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_its_line(resolve: Callable[..., Graph], options: str, path: str, text: str) -> None:
    with pytest.raises(PlanError) as caught:
        resolve((TRUTH, f"    truth: {{{options}}}\n"))
    (problem,) = [each for each in caught.value.problems if each.path.startswith("evaluate.judges.truth")]
    assert problem.path == f"evaluate.judges.truth.{path}"
    assert text in problem.text
    assert problem.line == LINE
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("nothing", "a template ends with a part that a line `[user]` begins"),
        ("[user]\n$conversation $first $second", "$rubric is missing; the judge would not see it"),
        ("[user]\n$conversation $first $second $rubric $", "a `$` begins a placeholder; write `$$` for the sign itself"),
        ("[user]\n$conversation $first $second $rubric $other", "unknown placeholder $other"),
    ],
)
def test_a_template_that_cannot_work_is_a_problem(
    template: str, text: str, resolve: Callable[..., Graph], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text(template)
    plan = resolve().document.text.replace(TRUTH, f"    truth: {{{LOCAL}, template: mine.txt}}\n")
    with pytest.raises(PlanError) as caught:
        check(parse_document(plan, str(tmp_path / "plan.yaml")), load_plugins().registry())
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == ("evaluate.judges.truth.template", LINE)
    assert text in problem.text


def test_a_bundle_that_holds_something_else_is_a_problem(resolve: Callable[..., Graph], tmp_path: Path) -> None:
    (tmp_path / "bundle.jsonl").write_text(json.dumps({"prompt_id": "1", "preference": 0.5}) + "\n")
    plan = resolve().document.text.replace(TRUTH, f"    truth: {{{LOCAL}, judgements: bundle.jsonl}}\n")
    with pytest.raises(PlanError, match=r"bundle\.jsonl:1: is no kept reply; give what a run left under replies/"):
        check(parse_document(plan, str(tmp_path / "plan.yaml")), load_plugins().registry())


def test_a_key_that_is_not_set_is_a_warning(resolve: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    given = (TRUTH, f"    truth: {{{LOCAL}, api_key_env: LOOPBACK_KEY}}\n")
    monkeypatch.delenv("LOOPBACK_KEY", raising=False)
    assert any("LOOPBACK_KEY is not set" in text for text in resolve(given).warnings)
    monkeypatch.setenv("LOOPBACK_KEY", "secret")
    assert not any("LOOPBACK_KEY" in text for text in resolve(given).warnings)


def test_what_judging_costs_is_told_before_anything_is_sent(resolve: Callable[..., Graph]) -> None:
    price = "price_per_million: {input: 10, output: 100}"
    node = resolve((TRUTH, f"    truth: {{{LOCAL}, {price}, budget_usd: 0.5, max_tokens: 1000}}\n")).judges["truth"]
    prompt = (harness.Message(role="user", content="x" * 400),)
    workload = harness.Workload({"held": [prompt] * 10}, comparisons=2, models=3, answer_tokens=50)
    text = node.judge.component().forecast(node.config, Path(), workload)
    assert text is not None
    # 10 prompts, 2 comparisons, 2 orders.
    assert text.startswith("40 calls to m at http://localhost:8000/v1, about ")
    read = int(text.split("about ")[1].split(" ")[0].replace(",", ""))
    # 100 tokens of the prompt and 2 · 50 of the answers at least, and less than twice as much again of instructions.
    assert 40 * 200 < read < 40 * 700
    dollars = float(text.split("$")[1].split(" ")[0])
    assert dollars == pytest.approx((read * 10 + 40 * 16 * 100) / 1e6, abs=0.005)
    assert "budget $0.50" in text
    assert "not enough" not in text
    small = node.config.model_copy(update={"budget_calls": 39})
    assert "39 calls and $0.50: not enough, some prompts will be unscored" in str(
        node.judge.component().forecast(small, Path(), workload)
    )


def test_a_rubric_is_asked_for_every_answer_and_criterion(resolve: Callable[..., Graph]) -> None:
    node = resolve((TRUTH, f"    truth: {{{LOCAL.replace('llm', 'rubric')}}}\n")).judges["truth"]
    prompt = (harness.Message(role="user", content="x"),)
    workload = harness.Workload({"a": [prompt] * 3, "b": [prompt]}, comparisons=2, models=3, answer_tokens=50)
    text = node.judge.component().forecast(node.config, Path(), workload)
    # 4 prompts, 3 models, 3 criteria.
    assert str(text).startswith("36 calls to m at")
    # 2 more policies answer the 3 prompts of the first suite.
    text = node.judge.component().forecast(node.config, Path(), replace(workload, along=2))
    assert str(text).startswith(f"{36 + 2 * 3 * 3} calls to m at")
    assert "prices not known" in str(text)


def test_a_temperature_is_fitted_to_held_out_preferences(resolve: Callable[..., Graph]) -> None:
    fit = ("{judge: reward-model, model: referee}", "{judge: reward-model, model: referee, temperature: fit}")
    graph = resolve(fit)
    assert held_out(graph, graph.judges["referee"]) == "toy.valid"
    without = (
        "referee: {aligner: reward, init: sft, data: toy.judge, valid: toy.valid}",
        "referee: {aligner: reward, init: sft, data: toy.judge}",
    )
    with pytest.raises(PlanError, match=r"evaluate\.judges\.referee\.temperature: there are no held-out preferences"):
        resolve(fit, without)
    graph = resolve(fit, without, ("  metrics:", "  reference: toy.valid\n  metrics:"))
    assert held_out(graph, graph.judges["referee"]) == "toy.valid"
    with pytest.raises(PlanError, match=r"referee\.temperature"):
        resolve((fit[0], fit[1].replace("fit", "warm")))
