"""Every verdict, provoked by a real run that is broken in a known way: a wrong sign, a frozen policy, a learning rate times
100, a reward that can be hacked, no KL penalty. And what a verdict does to a run.

The runs share one store and this process, so that each trains only the stage that is broken, in a second or two.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("torch")

from micro import install_plugin

from harness import cli
from harness.records import HealthVerdict
from harness.rundir import RunFolder

pytestmark = pytest.mark.torch

BASE = (
    "{type: tiny, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64, vocab_size: 400,"
    " max_position_embeddings: 128}"
)
ROLLOUTS = "rollout_batch_size: 16, per_device_train_batch_size: 16, num_ppo_epochs: 2, response_length: 24, max_steps: 14"
BROKEN = f"""\
name: broken
seed: 3
base: {BASE}
device: cpu
precision: fp32
threads: 1
data:
  toy: {{source: toy, pairs: 400, split: {{train: 0.6, valid: 0.15, test: 0.25}}}}
stages:
  sft:     {{aligner: sft, init: base, data: toy.train, answers: both, learning_rate: 1.0e-2, max_steps: 60,
            per_device_train_batch_size: 16}}
  reward:  {{aligner: reward, init: sft, data: toy.train, valid: toy.valid, learning_rate: 3.0e-3, max_steps: 20,
            logging_steps: 1, per_device_train_batch_size: 16}}
  lost:    {{aligner: reward-lost-head, init: sft, data: toy.train, learning_rate: 3.0e-3, max_steps: 5,
            per_device_train_batch_size: 16}}
  dpo:     {{aligner: dpo, init: sft, data: toy.train, learning_rate: 3.0e-4, max_steps: 20, logging_steps: 1,
            per_device_train_batch_size: 16}}
  sign:    {{aligner: dpo-wrong-sign, init: sft, data: toy.train, learning_rate: 3.0e-3, max_steps: 20, logging_steps: 1,
            per_device_train_batch_size: 16}}
  ppo:     {{aligner: ppo, init: sft, reward: reward, data: toy.train, learning_rate: 3.0e-4, {ROLLOUTS}, num_mini_batches: 2,
            save_steps: 2}}
  stale:   {{aligner: ppo-stale-sampler, init: sft, reward: reward, data: toy.train, learning_rate: 3.0e-3, {ROLLOUTS},
            kl_coef: 0, critic: shared}}
  raw:     {{aligner: ppo-raw-advantages, init: sft, reward: reward, data: toy.train, learning_rate: 3.0e-4, {ROLLOUTS},
            missing_eos_penalty: 1000}}
  entropy: {{aligner: ppo-wrong-entropy, init: sft, reward: reward, data: toy.train, learning_rate: 1.0e-2, {ROLLOUTS},
            entropy_coef: 10}}
  leap:    {{aligner: ppo-leaping, init: sft, reward: reward, data: toy.train, learning_rate: 3.0e-4, {ROLLOUTS}}}
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
  pairs:   {{source: preferences, path: pairs.jsonl, split: {{train: 0.6, test: 0.4}}}}
  swapped: {{source: preferences, path: swapped.jsonl}}
stages:
  sft:     {{aligner: sft, init: base, data: pairs.train, answers: both, learning_rate: 1.0e-2, max_steps: 60,
            per_device_train_batch_size: 16}}
  reward:  {{aligner: reward, init: sft, data: pairs.train, learning_rate: 3.0e-3, max_steps: 30, logging_steps: 2,
            per_device_train_batch_size: 16}}
  swapped-reward: {{aligner: reward, init: sft, data: swapped, learning_rate: 3.0e-3, max_steps: 30,
            per_device_train_batch_size: 16}}
  dpo:     {{aligner: dpo, init: sft, data: pairs.train, learning_rate: 3.0e-3, max_steps: 30, logging_steps: 1,
            per_device_train_batch_size: 16}}
  ppo:     {{aligner: ppo, init: sft, reward: reward, data: pairs.train, learning_rate: 2.0e-2, max_steps: 20,
            rollout_batch_size: 32, per_device_train_batch_size: 32, num_ppo_epochs: 4, response_length: 24, kl_coef: 0,
            missing_eos_penalty: 0, critic: shared}}
evaluate:
  baseline: sft
  candidates: [dpo, ppo]
  suites: {{heldout: {{data: pairs.test, limit: 60}}}}
  generate: {{max_new_tokens: 24}}
  judges: {{short: {{judge: brevity}}}}
  metrics: [win-rate, reward, length, accuracy]
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

    def verdicts(self, stage: str, *changes: str, plan: str = "broken") -> dict[str, HealthVerdict]:
        """The verdicts on the training of a stage, once its options are changed, by rule."""
        status, run = self.run(*(f"stages.{stage}.{change}" for change in changes), only=stage, plan=plan)
        assert status == 0
        return of_stage(run, stage)


def of_stage(run: RunFolder, stage: str) -> dict[str, HealthVerdict]:
    return {each.rule: each for each in run.health() if each.stage == stage}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Both plans, their data, and the plugin of broken things, installed."""
    folder = tmp_path_factory.mktemp("health")
    site = folder / "site"
    install_plugin(site, "broken_things", Path(__file__).with_name("broken_plugin.py").read_text("utf-8"))
    (folder / "broken.yaml").write_text(BROKEN, encoding="utf-8")
    (folder / "hackable.yaml").write_text(HACKABLE, encoding="utf-8")
    pairs = list(length_pairs())
    swapped = [{**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]} for pair in pairs[:120]]
    for name, rows in (("pairs", pairs), ("swapped", swapped)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        yield Home(folder)
    sys.modules.pop("broken_things", None)


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
    assert {"loss-stuck", "margins-alike"} <= set(found)
    assert found["loss-stuck"].value == pytest.approx(0.6931, abs=0.02)


def test_a_reward_model_at_a_learning_rate_hundreds_of_times_too_high(home: Home) -> None:
    found = home.verdicts("reward", "learning_rate=1.0", "lr_scheduler_type=constant", plan="hackable")
    assert found["extreme-rewards"].value > 20
    assert found["length-baseline"].value < 0, "the longer answer always wins in this data"
    weak = home.verdicts("reward", "learning_rate=0.3", "lr_scheduler_type=constant")
    assert weak["accuracy"].value < 0.55


def test_a_reward_model_whose_head_is_not_saved(home: Home) -> None:
    assert home.verdicts("lost")["reload"].value > 0.1
    assert "reload" not in home.verdicts("reward")


# --- DPO ------------------------------------------------------------------------------------------------------------------


def test_dpo_whose_policy_is_frozen(home: Home) -> None:
    assert home.verdicts("dpo", "learning_rate=1.0e-12")["stuck"].step == 10, "as soon as half of the training is over"


def test_dpo_with_the_wrong_sign(home: Home) -> None:
    found = home.verdicts("sign")
    assert found["accuracy"].value < 0.5
    assert found["rewards-collapse"].level == "warning"


def test_dpo_at_a_learning_rate_times_100_is_far_from_its_reference(home: Home) -> None:
    status, run = home.run("stages.dpo.learning_rate=0.03", "evaluate.candidates=[dpo]")
    assert status == 0
    assert of_stage(run, "dpo")["kl"].value > 5
    assert of_stage(run, "dpo")["kl"].step is None


def test_dpo_that_learns_has_both_rewards_fall_while_the_margin_grows_and_that_is_a_note(home: Home) -> None:
    found = home.verdicts("dpo", "learning_rate=1.0e-3", "max_steps=60")
    assert {rule: each.level for rule, each in found.items()} == {"both-rewards-fall": "note"}


# --- PPO ------------------------------------------------------------------------------------------------------------------


def test_rewards_that_can_be_hacked_are(home: Home) -> None:
    """The longer answer always wins in this data, and the judge likes short ones. Nothing holds PPO back: beta is 0."""
    status, run = home.run(plan="hackable")
    assert status == 0
    ppo = of_stage(run, "ppo")
    assert {"hacking", "diversity"} <= set(ppo)
    assert "short" in ppo["hacking"].text
    assert "length-baseline" in of_stage(run, "reward"), "it learned length and nothing else"
    assert of_stage(run, "dpo")["length-drift"].value > 0.25
    swapped = of_stage(run, "swapped-reward")["accuracy"]
    assert (swapped.step, swapped.value < 0.5) == (None, True), "its training pairs were swapped, the held-out ones are not"
    assert "health warnings on" in run.report_path.read_text(encoding="utf-8")


def test_ppo_that_is_paid_for_entropy_loses_its_fluency(home: Home) -> None:
    found = home.verdicts("ppo", "critic=separate", "learning_rate=2.0e-3", "entropy_coef=0.1", plan="hackable")
    assert found["fluency"].value < -0.5


def test_ppo_with_the_wrong_sign_of_the_entropy_bonus_collapses(home: Home) -> None:
    found = home.verdicts("entropy")
    assert {"entropy", "repeated-answers", "kl"} <= set(found)


def test_ppo_at_a_learning_rate_that_grows_without_bounds(home: Home) -> None:
    assert "kl" in home.verdicts("ppo", "learning_rate=0.04", "warmup_steps=14")


def test_ppo_whose_learning_rate_leaps(home: Home) -> None:
    assert home.verdicts("leap")["exploding-kl"].value > 5


def test_ppo_whose_advantages_are_not_whitened(home: Home) -> None:
    found = home.verdicts("raw")
    assert {"policy-loss", "value-loss", "oscillating"} <= set(found)


def test_ppo_without_a_clip_skips_minibatches(home: Home) -> None:
    found = home.verdicts("ppo", "cliprange=1000", "num_ppo_epochs=16", "learning_rate=0.01", "max_steps=5")
    assert found["skips"].value >= 3


def test_ppo_whose_critic_is_frozen(home: Home) -> None:
    assert home.verdicts("ppo", "critic_learning_rate=1.0e-12")["explained-variance"].value < 0


def test_ppo_whose_sampler_never_gets_new_weights(home: Home) -> None:
    assert home.verdicts("stale")["negative-kl"].value < 0


# --- what a verdict does --------------------------------------------------------------------------------------------------

FAR = ("stages.ppo.learning_rate=0.05", "stages.ppo.max_steps=6")
"""A learning rate that takes PPO over a KL of 10 by its third step, one after a checkpoint."""


def test_stop_ends_the_stage_and_warn_goes_on_from_the_last_checkpoint(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.progress.PLAIN_SECONDS", 0.0)
    status, stopped = home.run(*FAR, "health=stop", only="ppo")
    said = capsys.readouterr().err
    assert status == 1
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("ppo: failed:")]
    assert "stopped at step 3 by its health rule 'kl'" in line
    assert stopped.run()["stages"]["ppo"]["status"] == "failed"
    assert [each.rule for each in stopped.health()] == ["kl"]
    assert "stopped at step 3" in stopped.report_path.read_text(encoding="utf-8")

    status, warned = home.run(*FAR, only="ppo")
    said = capsys.readouterr().err
    assert status == 0
    assert "ppo: goes on from its checkpoint at step 2" in said
    assert re.findall(r"ppo: (\d)/6", said)[0] == "3", "progress begins where training does, so its rate is true"
    assert len([line for line in said.splitlines() if line.startswith("ppo: health: its KL is")]) == 1, "told once"
    assert of_stage(warned, "ppo")["kl"] == of_stage(stopped, "ppo")["kl"]

    status, again = home.run(*FAR, only="ppo")
    assert status == 0
    assert "ppo: reused" in capsys.readouterr().err
    assert again.health() == warned.health(), "a reused stage replays to the same verdicts"
    assert again.health_checked() == warned.health_checked()

    status, held = home.run(*FAR, "health=stop", only="ppo")
    assert status == 1, "a stage from the store is held to the same rules"
    assert held.run()["stages"]["ppo"]["status"] == "failed"
    assert held.health() == stopped.health()


def test_a_stage_without_a_warning_is_as_it_was(home: Home) -> None:
    status, run = home.run("health=stop", only="sft")
    assert status == 0
    assert run.health() == []
