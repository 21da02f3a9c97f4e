"""PPO against a judge from a plugin instead of a reward model: what the judge says reaches the training and the run's records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("torch")

from micro import harness, install_plugin

from harness.rundir import RunFolder

pytestmark = pytest.mark.torch

PLUGIN = '''
import harness

class Terse(harness.ScoringJudge):
    """Minus the words of an answer; `most` words are the most that it reads."""

    name = "terse"

    class Config(harness.Options):
        most: int = 1000

    def score(self, prompts, answers, config, inputs, context):
        context.note(f"{len(answers)} answers to read")
        counts = [len(answer.split()) for answer in answers]
        return [-float(count) if count <= config.most else None for count in counts]

@harness.hookimpl
def harness_judges():
    return [Terse]
'''
PLAN = """\
name: judged
seed: 3
base: {type: tiny, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64, vocab_size: 400}
device: cpu
precision: fp32
threads: 1
data:
  toy: {source: toy, pairs: 300}
stages:
  sft: {aligner: sft, init: base, data: toy, answers: both, learning_rate: 3.0e-3}
  ppo: {aligner: ppo, init: sft, reward: {judge: terse}, data: toy, learning_rate: 3.0e-3, max_steps: 8,
        rollout_batch_size: 16, response_length: 24, kl_coef: 0, missing_eos_penalty: 0}
"""
STEPS = range(1, 9)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plan and the plugin, installed."""
    folder = tmp_path_factory.mktemp("judged")
    (folder / "plan.yaml").write_text(PLAN)
    install_plugin(folder / "site", "terse_judge", PLUGIN)
    return folder


def run(home: Path, out: str, *settings: str) -> tuple[int, str, RunFolder]:
    changes = [part for setting in settings for part in ("--set", setting)]
    done = harness(home, "run", "plan.yaml", "--out", out, *changes, PYTHONPATH=str(home / "site"))
    return done.returncode, done.stderr, RunFolder(home / out)


def logged(found: RunFolder) -> Mapping[str, list[float]]:
    values: dict[str, list[float]] = {}
    for scalar in found.scalars():
        if scalar.stage == "ppo":
            values.setdefault(scalar.name, []).append(scalar.value)
    return values


def test_its_scores_are_what_ppo_trains_for_and_its_notes_are_the_stages(home: Path) -> None:
    status, said, found = run(home, "first")
    assert status == 0, said
    scores = logged(found)["score"]
    assert sum(scores[-3:]) / 3 > sum(scores[:3]) / 3 + 1, "answers grow shorter by more than a word"
    notes = [event["text"] for event in found.events() if (event["event"], event.get("stage")) == ("note", "ppo")]
    assert notes == ["16 answers to read"], "once, though it says so of every rollout"
    assert said.count("ppo: 16 answers to read") == 1
    assert found.run()["warnings"] == []


def test_what_it_does_not_score_is_counted(home: Path) -> None:
    status, said, found = run(home, "second", "stages.ppo.reward.most=6")
    assert status == 0, said
    unscored = logged(found)["unscored"]
    assert len(unscored) == len(STEPS)
    assert 0 < unscored[0] < 1
    assert all(score >= -6 for score in logged(found)["score"]), "it counts for nothing in the mean"


def test_one_that_scores_nothing_ends_the_stage_in_words(home: Path) -> None:
    status, said, _ = run(home, "third", "stages.ppo.reward.most=-1")
    assert status == 1
    assert "ppo: failed: stage 'ppo': terse scored none of 16 answers" in said
    assert "Traceback" not in said
