"""Every verdict, provoked by a real run that is broken in a known way: a wrong sign, a frozen policy, a learning rate times
100, a reward that can be hacked, no KL penalty. And what a verdict does to a run.

The runs share one store, in this process, so that each trains only the stage that is broken, in a second or two.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("torch")

from harness import cli
from harness.records import HealthVerdict
from harness.rundir import RunFolder

pytestmark = pytest.mark.torch

BASE = (
    "{type: tiny, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64, vocab_size: 400,"
    " max_position_embeddings: 128}"
)
PLAN = f"""\
name: broken
seed: 3
base: {BASE}
device: cpu
precision: fp32
threads: 1
data:
  toy: {{source: toy, pairs: 400, split: {{train: 0.6, valid: 0.15, test: 0.25}}}}
stages:
  sft:    {{aligner: sft, init: base, data: toy.train, answers: both, learning_rate: 1.0e-2, max_steps: 60,
           per_device_train_batch_size: 16}}
  reward: {{aligner: reward, init: sft, data: toy.train, valid: toy.valid, learning_rate: 3.0e-3, max_steps: 20,
           logging_steps: 1, per_device_train_batch_size: 16}}
  dpo:    {{aligner: dpo, init: sft, data: toy.train, learning_rate: 3.0e-4, max_steps: 20, logging_steps: 1,
           per_device_train_batch_size: 16}}
  sign:   {{aligner: dpo-wrong-sign, init: sft, data: toy.train, learning_rate: 3.0e-3, max_steps: 20, logging_steps: 1,
           per_device_train_batch_size: 16}}
  ppo:    {{aligner: ppo, init: sft, reward: reward, data: toy.train, learning_rate: 3.0e-4, max_steps: 14,
           rollout_batch_size: 16, per_device_train_batch_size: 16, num_ppo_epochs: 2, num_mini_batches: 2,
           response_length: 24, save_steps: 2}}
  stale:  {{aligner: ppo-stale-sampler, init: sft, reward: reward, data: toy.train, learning_rate: 3.0e-3, max_steps: 14,
           rollout_batch_size: 16, per_device_train_batch_size: 16, num_ppo_epochs: 2, response_length: 24, kl_coef: 0}}
evaluate:
  baseline: sft
  candidates: [dpo]
  suites: {{heldout: {{data: toy.test, limit: 40}}}}
  generate: {{max_new_tokens: 24}}
  metrics: [kl, length]
  bootstrap: {{resamples: 200}}
"""
HACKABLE = f"""\
name: hackable
seed: 3
base: {BASE}
device: cpu
precision: fp32
threads: 1
data:
  pairs: {{source: preferences, path: pairs.jsonl, split: {{train: 0.6, test: 0.4}}}}
stages:
  sft:    {{aligner: sft, init: base, data: pairs.train, answers: both, learning_rate: 1.0e-2, max_steps: 60,
           per_device_train_batch_size: 16}}
  reward: {{aligner: reward, init: sft, data: pairs.train, learning_rate: 3.0e-3, max_steps: 30,
           per_device_train_batch_size: 16}}
  ppo:    {{aligner: ppo, init: sft, reward: reward, data: pairs.train, learning_rate: 3.0e-3, max_steps: 20,
           rollout_batch_size: 32, per_device_train_batch_size: 32, num_ppo_epochs: 2, response_length: 24, kl_coef: 0,
           missing_eos_penalty: 0}}
evaluate:
  baseline: sft
  candidates: [ppo]
  suites: {{heldout: {{data: pairs.test, limit: 60}}}}
  generate: {{max_new_tokens: 24}}
  judges: {{short: {{judge: brevity}}}}
  metrics: [win-rate, reward, diversity, accuracy]
  bootstrap: {{resamples: 200}}
"""


class Home:
    """A folder with the plans and a store, in which plans are run with changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = 0

    def run(self, *changes: str, only: str | None = None, plan: str = "broken") -> tuple[int, RunFolder]:
        """Run a plan with options changed; its status and its run folder."""
        self.runs += 1
        out = self.folder / f"run-{self.runs}"
        settings = [each for change in changes for each in ("--set", change)]
        arguments = [str(self.folder / f"{plan}.yaml"), "--out", str(out), "--store", str(self.folder / "store"), *settings]
        status = cli.cli.main(["run", *arguments, *(["--only", only] if only else [])], standalone_mode=False)
        return int(status), RunFolder(out)

    def verdicts(self, stage: str, *changes: str, plan: str = "broken", only: bool = True) -> dict[str, HealthVerdict]:
        """The verdicts on a stage once its options are changed, by rule."""
        options = [f"stages.{stage}.{change}" for change in changes]
        status, run = self.run(*options, only=stage if only else None, plan=plan)
        assert status == 0
        return {each.rule: each for each in run.health() if each.stage == stage}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Both plans, and the plugin of broken things, installed."""
    folder = tmp_path_factory.mktemp("health")
    site = folder / "site"
    info = site / "broken_things-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-things\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[harness]\nbroken = broken_things\n", encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name("broken_plugin.py"), site / "broken_things.py")
    (folder / "broken.yaml").write_text(PLAN, encoding="utf-8")
    (folder / "hackable.yaml").write_text(HACKABLE, encoding="utf-8")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in length_pairs()), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        yield Home(folder)


def length_pairs() -> Iterator[dict[str, str]]:
    """Preferences in which the longer answer always wins."""
    rng = Random(1)
    words = ("red", "green", "blue", "small", "large", "round", "old", "new")
    for number in range(240):
        long, short = (" ".join(rng.choices(words, k=size)) for size in (rng.randint(6, 9), rng.randint(1, 4)))
        yield {"prompt": f"Describe thing {number}.", "chosen": long, "rejected": short}


# --- reward model ---------------------------------------------------------------------------------------------------------


def test_a_reward_model_whose_weights_decay_to_nothing(home: Home) -> None:
    found = home.verdicts("reward", "weight_decay=1000", "learning_rate=1.0e-3", "lr_scheduler_type=constant")
    assert found["loss-stuck"].value == pytest.approx(0.6931, abs=0.02)


def test_a_reward_model_at_a_learning_rate_times_100(home: Home) -> None:
    found = home.verdicts("reward", "learning_rate=0.3", "lr_scheduler_type=constant")
    print(found)
    assert {"accuracy", "extreme-rewards"} <= set(found)


# --- DPO ------------------------------------------------------------------------------------------------------------------


def test_dpo_whose_policy_is_frozen(home: Home) -> None:
    found = home.verdicts("dpo", "learning_rate=1.0e-12")
    assert found["stuck"].step == 10, "as soon as half of the training is over"


def test_dpo_with_the_wrong_sign(home: Home) -> None:
    found = home.verdicts("sign")
    print(found)
    assert found["accuracy"].value < 0.5


def test_dpo_at_a_learning_rate_times_100(home: Home) -> None:
    found = home.verdicts("dpo", "learning_rate=0.03", only=False)
    print(found)
    assert found["kl"].value > 5
    assert {"kl", "length-drift"} <= set(found)


def test_dpo_that_learns_fast_has_both_rewards_fall_while_the_margin_grows(home: Home) -> None:
    found = home.verdicts("dpo", "learning_rate=3.0e-3", "max_steps=45")
    assert found["both-rewards-fall"].level == "note"


def test_x(home: Home) -> None:
    for lr in (0.1, 0.3, 1.0):
        found = home.verdicts("dpo", f"learning_rate={lr}")
        print(lr, found)
    for o in (
        ("learning_rate=0.3", "num_ppo_epochs=6"),
        ("learning_rate=1.0", "num_ppo_epochs=4"),
        ("learning_rate=0.1", "num_ppo_epochs=8", "num_mini_batches=4"),
        ("learning_rate=0.03", "warmup_steps=14"),
        ("critic_learning_rate=3.0",),
        ("critic_learning_rate=30.0",),
        ("critic_learning_rate=0.03",),
    ):
        found = home.verdicts("ppo", *o)
        print(o)
        for each in found.values():
            print("    ", each.rule, each.step, each.text)
    found = home.verdicts("stale")
    print(found)
    found = home.verdicts("ppo", plan="hackable", only=False)
    print(found)
    assert 0
