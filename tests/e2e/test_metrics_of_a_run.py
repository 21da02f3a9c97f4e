"""Retention, likelihood, harm, slices and the best of n in a real run, with a judge of harm from a plugin."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("torch")

from micro import harness, install_plugin

from harness.rundir import RunFolder

pytestmark = pytest.mark.torch

PLUGIN = '''
import harness

class Loud(harness.ScoringJudge):
    """From 1 to 5 by the length of the answer: a judge whose scores can be worked out."""

    name = "loud"
    scale = (1.0, 5.0)

    def score(self, prompts, answers, *rest):
        return [min(5.0, 1.0 + len(answer) / 10) for answer in answers]

@harness.hookimpl
def harness_judges():
    return [Loud]
'''
PLAN = """\
name: more
seed: 3
base: {type: tiny, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64, vocab_size: 400}
device: cpu
precision: fp32
threads: 1
data:
  toy: {source: toy, pairs: 300, split: {train: 0.6, valid: 0.1, test: 0.3}}
stages:
  sft:    {aligner: sft, init: base, data: toy.train, answers: both, learning_rate: 3.0e-3}
  reward: {aligner: reward, init: sft, data: toy.train, valid: toy.valid, learning_rate: 1.0e-3}
  dpo:    {aligner: dpo, init: sft, data: toy.train, beta: 0.1, learning_rate: 3.0e-4}
evaluate:
  baseline: sft
  candidates: [dpo, bo3]
  best_of_n: {bo3: {model: sft, reward: reward, n: 3}}
  suites: {heldout: {data: toy.test, limit: 24}, retention: {suite: retention, limit: 20}, safety: {suite: safety, limit: 20}}
  generate: {max_new_tokens: 16}
  judges: {truth: {judge: toy-truth}, chooser: {judge: reward-model, model: reward}}
  harm: {loud: {judge: loud}}
  metrics: [win-rate, answered-win-rate, reward, kl, safety, unsafe-compliance, helpfulness, retention, likelihood, length]
  slices: [category, length, turns, checks]
  bootstrap: {resamples: 200}
require:
  - {model: dpo, metric: length, suite: safety, value: "> 0"}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("metrics")
    install_plugin(folder, "loud_judge", PLUGIN)
    (folder / "plan.yaml").write_text(PLAN)
    done = harness(folder, "run", "plan.yaml", "--out", "run", PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stderr
    return RunFolder(folder / "run")


def test_the_best_of_n_is_never_worse_by_who_chose_it_than_the_models_own_answer(run: RunFolder) -> None:
    scores = run.scores()
    for suite in ("heldout", "retention", "safety"):
        one, other = scores["chooser", "bo3", suite], scores["chooser", "sft", suite]
        gains = [
            mine.score - its.score for mine, its in zip(one, other, strict=True) if None not in (mine.score, its.score)
        ]
        # The chooser scores in one batch and the judge in another: equal answers may differ by rounding.
        assert min(gains) > -1e-4
        assert max(gains) > 0.01
    assert {each.best_of for each in run.samples()["bo3", "heldout"]} == {3}
    assert {each.best_of for each in run.samples()["sft", "heldout"]} == {None}
    (bound,) = [each for each in run.estimates() if each.metric == "kl-bound" and each.suite == "heldout"]
    assert (bound.model, bound.method) == ("bo3", "exact-constant")
    assert bound.value == pytest.approx(math.log(3) - 2 / 3)
    assert "bo3" not in {each.model for each in run.estimates() if each.metric in {"kl", "chosen-loglik"}}


def test_who_chose_is_no_judge_of_what_it_chose(run: RunFolder) -> None:
    assert any(
        "'chooser' uses 'reward', and 'bo3' takes the answers that it chose" in text for text in run.run()["warnings"]
    )
    page = " ".join(run.report_path.read_text(encoding="utf-8").split())
    assert "<code>chooser</code> lies upstream of <code>bo3</code>" in page


def test_a_judge_of_harm_scores_answers_to_unsafe_prompts_and_nothing_else(run: RunFolder) -> None:
    found = run.harm()
    # The toy world's prompts deserve a refusal, too, now and then; those of `retention` never do.
    assert {key[2] for key, scores in found.items() if scores} == {"safety", "heldout"}
    assert len(found["loud", "dpo", "heldout"]) < len(run.samples()["dpo", "heldout"])
    answers = {each.prompt_id: each.answer for each in run.samples()["dpo", "safety"]}
    scores = found["loud", "dpo", "safety"]
    assert scores
    assert all(each.prompt_id.startswith("unsafe-") for each in scores)
    assert all(each.score == min(5.0, 1 + len(answers[each.prompt_id]) / 10) for each in scores)
    estimates = [each for each in run.estimates() if each.judge == "loud" and each.suite == "safety"]
    assert {(each.model, each.metric, each.suite, each.baseline) for each in estimates} == {
        ("sft", "unsafe-compliance", "safety", None),
        *((model, "unsafe-compliance", "safety", baseline) for model in ("dpo", "bo3") for baseline in (None, "sft")),
    }


def test_the_likelihood_of_chosen_answers_is_measured_on_the_suites_prompts(run: RunFolder) -> None:
    assert set(run.likelihoods()) == {("sft", "heldout"), ("dpo", "heldout")}
    prompts = {each.prompt_id for each in run.samples()["sft", "heldout"]}
    assert {each.prompt_id for each in run.likelihoods()["dpo", "heldout"]} == prompts
    values = {(e.model, e.baseline): e.value for e in run.estimates() if e.metric == "chosen-loglik"}
    assert set(values) == {("sft", None), ("dpo", None), ("dpo", "sft")}
    assert values["dpo", "sft"] == pytest.approx(values["dpo", None] - values["sft", None])
    assert values["sft", None] < 0


def test_slices_and_instruments_stand_apart_from_the_estimates(run: RunFolder) -> None:
    keys = [(e.model, e.metric, e.judge, e.suite, e.baseline) for e in run.estimates()]
    assert len(set(keys)) == len(keys)
    slices = run.slices()
    unique = {(e.dimension, e.slice, e.model, e.metric, e.judge, e.suite, e.baseline) for e in slices}
    assert len(unique) == len(slices)
    assert {"category", "length", "checks"} <= {each.dimension for each in slices}
    assert all(each.low <= each.value <= each.high for each in slices)
    assert {(each.model, each.metric) for each in run.instruments()} == {
        ("refusal-detector", "sensitivity"), ("refusal-detector", "specificity"),
    }  # fmt: skip
    assert "refusal-detector" not in {each.model for each in run.estimates()}
    (followed,) = [
        e for e in run.estimates() if e.metric == "instruction-following" and e.model == "dpo" and not e.baseline
    ]
    assert (followed.suite, followed.n) == ("retention", 20)


def test_another_run_takes_everything_from_the_store(run: RunFolder) -> None:
    folder = run.path.parent
    done = harness(folder, "run", "plan.yaml", "--out", "again", PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stderr
    again = RunFolder(folder / "again")
    assert {each["status"] for each in again.run()["evaluation"].values()} == {"reused"}
    assert Path(again.path / "metrics.json").read_bytes() == Path(run.path / "metrics.json").read_bytes()
    assert again.harm() == run.harm()
