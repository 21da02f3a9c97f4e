"""`harness run` from a plan to a report, and again: the whole chain on a micro plan, as a user runs it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from micro import command, estimates, harness

from harness.audit import AUDIT_METRICS
from harness.records import Sample
from harness.rundir import RunFolder
from harness.stats import fit_temperature

pytestmark = pytest.mark.torch


def test_the_run_folder_is_whole(home: Path) -> None:
    run = RunFolder(home / "first")
    assert run.run()["status"] == "done"
    assert {name: stage["status"] for name, stage in run.run()["stages"].items()} == dict.fromkeys(
        ["base", "sft", "reward", "referee", "dpo", "ppo"], "done"
    )
    assert set(run.samples()) == {("sft", "heldout"), ("dpo", "heldout"), ("ppo", "heldout")}
    assert {len(samples) for samples in run.samples().values()} == {24}
    assert set(run.judgements()) == {
        (judge, f"{candidate}--sft", "heldout") for judge in ("truth", "referee") for candidate in ("dpo", "ppo")
    }
    assert "<html" in run.report_path.read_text()
    assert (run.path / "plan.yaml").read_text() == (home / "plan.yaml").read_text()


def test_every_stage_logs_its_curves_once(home: Path) -> None:
    scalars = list(RunFolder(home / "first").scalars())
    assert {each.stage for each in scalars} == {"sft", "reward", "referee", "dpo", "ppo"}
    steps = [each.step for each in scalars if each.stage == "ppo" and each.name == "reward"]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_estimates_are_unique_and_every_interval_holds_its_value(home: Path) -> None:
    found = estimates(home / "first")
    identities = [tuple(each[key] for key in ("model", "metric", "judge", "suite", "baseline")) for each in found]
    assert len(set(identities)) == len(identities)
    assert all(each["low"] <= each["value"] <= each["high"] for each in found)
    assert ("dpo", "win-rate", "truth", "heldout", "sft") in identities
    assert ("ppo", "win-rate-difference", "truth", "heldout", "dpo") in identities
    assert ("reward", "accuracy", None, "heldout", None) in identities


def test_a_fitted_temperature_makes_preferences_of_margins(home: Path) -> None:
    done = harness(home, "run", "plan.yaml", "--out", "soft", "--set", "evaluate.judges.referee.temperature=fit")
    assert done.returncode == 0, done.stderr
    run = RunFolder(home / "soft")
    (pairs,) = [pairs for (model, suite), pairs in run.pairs().items() if (model, suite) == ("referee", "toy.valid")]
    temperature = fit_temperature(np.array([each.chosen_score - each.rejected_score for each in pairs]))
    assert 0 < temperature < math.inf
    scores = {
        model: {each.prompt_id: each.score for each in run.scores()["referee", model, "heldout"]}
        for model in ("dpo", "sft")
    }
    for each in run.judgements()["referee", "dpo--sft", "heldout"]:
        mine, other = scores["dpo"][each.prompt_id], scores["sft"][each.prompt_id]
        assert mine is not None
        assert other is not None
        assert each.preference == pytest.approx(1 / (1 + math.exp(-(mine - other) / temperature)))


def test_samples_hold_what_every_kl_metric_is_computed_from(home: Path) -> None:
    samples = RunFolder(home / "first").samples()["dpo", "heldout"]
    values = {
        each["metric"]: each["value"]
        for each in estimates(home / "first")
        if each["model"] == "dpo" and "kl" in each["metric"]
    }

    def mean(value: Callable[[Sample], float]) -> float:
        return sum(map(value, samples)) / len(samples)

    assert values["kl"] == pytest.approx(mean(lambda sample: sample.kl or 0))
    assert values["kl-k1"] == pytest.approx(mean(lambda sample: sample.logprob - (sample.ref_logprob or 0)))
    assert values["kl-k3"] == pytest.approx(mean(lambda sample: sample.kl_k3 or 0))
    assert all((sample.kl or 0) >= -1e-4 for sample in samples)


def test_a_trained_model_opens_with_from_pretrained_and_has_a_card(home: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    stages = RunFolder(home / "first").run()["stages"]

    def folder(name: str) -> Path:
        return home / "runs" / ".store" / stages[name]["key"][:2] / stages[name]["key"]

    kept = stages["dpo"]["kept"]["reference log-probabilities"]
    assert (home / "runs" / ".store" / kept[:2] / kept / "artifact.json").exists()
    assert AutoModelForCausalLM.from_pretrained(folder("dpo")).config.model_type == "llama"
    assert AutoModelForSequenceClassification.from_pretrained(folder("reward")).config.num_labels == 1
    card = (folder("dpo") / "README.md").read_text()
    assert "toy.train" in card
    assert "- beta: `0.1`" in card
    assert "- init: `sft`" in card
    assert not list(folder("dpo").glob("*.bin")) + list(folder("dpo").glob("*.pt"))


def test_a_rerun_computes_nothing_imports_no_torch_and_is_whole(home: Path) -> None:
    script = (
        "import sys, harness.cli\n"
        "try: harness.cli.main(['run', 'plan.yaml', '--out', 'again'])\n"
        "except SystemExit as exit: assert exit.code == 0, exit.code\n"
        "loaded = {'torch', 'scipy', 'transformers', 'trl'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "computed nothing" in done.stderr
    assert "dpo: reused" in done.stderr
    assert estimates(home / "again") == estimates(home / "first")
    first, again = RunFolder(home / "first"), RunFolder(home / "again")
    assert list(again.scalars()) == list(first.scalars())
    assert again.samples() == first.samples()
    assert again.report_path.exists()
    assert {stage["status"] for stage in again.run()["stages"].values()} == {"reused"}


def test_comparing_all_judges_the_candidates_against_each_other_too(home: Path) -> None:
    done = harness(home, "run", "plan.yaml", "--set", "evaluate.compare=all", "--out", "all")
    assert done.returncode == 0, done.stderr
    run = RunFolder(home / "all")
    judged = {each.prompt_id: each.preference for each in run.judgements()["truth", "ppo--dpo", "heldout"]}
    truth = {model: run.scores()["truth", model, "heldout"] for model in ("dpo", "ppo")}
    for one, other in zip(truth["ppo"], truth["dpo"], strict=True):
        assert judged[one.prompt_id] == (1.0 if one.score > other.score else 0.0 if one.score < other.score else 0.5)
    found = {(e["model"], e["metric"], e["judge"], e["baseline"]): e["value"] for e in estimates(home / "all")}
    assert found["ppo", "win-rate", "truth", "dpo"] == pytest.approx(sum(judged.values()) / len(judged))
    before = {(e["model"], e["metric"], e["judge"], e["baseline"]): e["value"] for e in estimates(home / "first")}
    # What is measured of a judge, is measured on all that it compared.
    assert {key: value for key, value in before.items() if key[1] not in AUDIT_METRICS}.items() <= found.items()


def test_policies_along_a_training_are_kept_and_scored(home: Path) -> None:
    done = harness(home, "run", "plan.yaml", "--set", "stages.ppo.checkpoints=3", "--out", "along")
    assert done.returncode == 0, done.stderr
    run = RunFolder(home / "along")
    # Six iterations in three parts: after 2, after 4, and the trained policy itself.
    assert {model for model, _ in run.samples()} == {"sft", "dpo", "ppo", "ppo@2", "ppo@4"}
    found = {(e["model"], e["metric"], e["judge"]): e["value"] for e in estimates(home / "along") if not e["baseline"]}
    # It judges nothing, and is asked because PPO learned from it.
    assert {("ppo@2", "reward", judge) for judge in ("truth", "referee", "reward")} <= found.keys()
    assert 0 < found["ppo@2", "kl", None] < found["ppo@4", "kl", None] < found["ppo", "kl", None]
    roots = {model: found[model, "kl", None] ** 0.5 for model in ("ppo@2", "ppo@4", "ppo")} | {"sft": 0.0}
    best = max(roots, key=lambda model: found[model, "reward", "referee"])
    assert found["ppo", "turning-point", "referee"] == pytest.approx(roots[best])
    first = RunFolder(home / "first").samples()["ppo", "heldout"]
    assert [each.answer for each in run.samples()["ppo", "heldout"]] == [each.answer for each in first]
    assert 'id="overoptimisation"' in run.report_path.read_text()


def test_a_fresh_run_gives_the_same_metrics_to_the_bit(home: Path) -> None:
    done = harness(home, "run", "plan.yaml", "--out", "elsewhere", "--store", "another-store")
    assert done.returncode == 0, done.stderr
    assert estimates(home / "elsewhere") == estimates(home / "first")


def test_the_store_knows_of_a_run_wherever_its_folder_is(home: Path) -> None:
    """`first` is not under runs/, where it would be found."""
    items = json.loads(harness(home, "store", "ls", "--json").stdout)
    document = RunFolder(home / "first").run()
    steps = [*document["stages"].values(), *document["evaluation"].values()]
    keys = {key for step in steps for key in (step["key"], *step.get("kept", {}).values())}
    assert {item["key"] for item in items if str(home / "first") in item["uses"]} == keys


def test_only_trains_a_stage_and_what_it_builds_on(home: Path) -> None:
    done = harness(home, "run", "plan.yaml", "--out", "only", "--only", "reward")
    assert done.returncode == 0, done.stderr
    assert set(RunFolder(home / "only").run()["stages"]) == {"base", "sft", "reward"}


def test_json_prints_one_document_and_nothing_else(home: Path) -> None:
    done = harness(home, "run", "plan.yaml", "--out", "json", "--json")
    document = json.loads(done.stdout)
    assert document["status"] == "done"
    assert document["estimates"] == estimates(home / "first")


def test_check_says_what_the_store_has(home: Path) -> None:
    done = harness(home, "check", "plan.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[in the store]") == 5
    changed = harness(home, "check", "plan.yaml", "--set", "stages.dpo.beta=0.2")
    assert changed.stdout.count("[in the store]") == 4


def test_check_shows_examples_with_their_loss_masks(home: Path) -> None:
    done = harness(home, "check", "plan.yaml", "--example")
    assert done.returncode == 0, done.stderr
    learned = [line.partition("«")[2].rstrip("»") for line in done.stdout.splitlines() if "chosen: " in line]
    assert len(learned) == 2  # of sft and of dpo
    assert all(each.endswith("<|eos|>") for each in learned), "the model learns to stop"
    assert not any("<|user|>" in each for each in learned), "the prompt carries no loss"
    assert done.stdout.count("  prompt, shared by both answers: ") == 3  # of both reward models and of dpo
    scored = [line for line in done.stdout.splitlines() if "scored at its last token: " in line]
    assert len(scored) == 4
    assert all(line.endswith("«<|eos|>»") for line in scored)


def test_a_failed_gate_ends_with_status_3(home: Path) -> None:
    gate = 'require=[{model: dpo, metric: kl, value: "<= 0"}]'
    done = harness(home, "run", "plan.yaml", "--out", "gated", "--set", gate)
    assert done.returncode == 3
    assert "gate dpo kl: value <= 0: fail" in done.stderr
    assert RunFolder(home / "gated").run()["status"] == "gated"


def test_an_unmet_requirement_skips_a_stage_and_what_builds_on_it(home: Path) -> None:
    done = harness(home, "run", "plan.yaml", "--out", "unmet", "--set", "stages.ppo.requires.0.value='>= 0.99'")
    assert done.returncode == 3, done.stderr
    assert "ppo: skipped: requires reward accuracy: value >= 0.99, and it is" in done.stderr
    assert "; 1 stage did not finish" in done.stderr
    run = RunFolder(home / "unmet").run()
    assert run["stages"]["ppo"]["status"] == "skipped"
    assert run["stages"]["dpo"]["status"] == "reused"
    assert ("dpo", "heldout") in RunFolder(home / "unmet").samples()


def test_a_nan_loss_ends_the_stage_with_one_message(home: Path) -> None:
    done = harness(home, "run", "plan.yaml", "--out", "nan", "--set", "stages.dpo.learning_rate=1.0e+30")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("dpo: failed:")]
    assert "the loss or its gradient is not finite at step" in message
    assert "learning_rate" in message
    run = RunFolder(home / "nan")
    assert run.run()["stages"]["dpo"]["status"] == "failed"
    assert run.run()["stages"]["ppo"]["status"] == "reused"
    assert "not finite at step" in run.report_path.read_text()


def test_two_runs_at_once_share_the_work(write_plan: Callable[..., Path]) -> None:
    plan = write_plan(("candidates: [dpo, ppo]", "candidates: [dpo]"))
    start = [
        subprocess.Popen(command("run", plan, "--out", f"run-{number}"), cwd=plan.parent, stderr=subprocess.PIPE, text=True)
        for number in (1, 2)
    ]
    errors = [process.communicate(timeout=600)[1] for process in start]
    assert [process.returncode for process in start] == [0, 0], errors
    first, second = (RunFolder(plan.parent / f"run-{number}").run()["stages"] for number in (1, 2))
    for name in first:
        assert sorted([first[name]["status"], second[name]["status"]]) == ["done", "reused"], name
    assert estimates(plan.parent / "run-1") == estimates(plan.parent / "run-2")


def test_ask_answers_with_every_model(home: Path) -> None:
    done = harness(home, "ask", "first", "How do I plant a rose?", "--max-new-tokens", "8")
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("── ")] == ["sft", "dpo", "ppo"]


def test_ask_refuses_a_model_that_is_not_there(home: Path) -> None:
    done = harness(home, "ask", "first", "Hello?", "--model", "dqo")
    assert done.returncode == 2
    assert "the run has no such model; it has" in done.stderr


def test_score_agrees_with_the_run(home: Path) -> None:
    pair = RunFolder(home / "first").pairs()["reward", "heldout"][0]
    prompt = [message.model_dump() for message in pair.prompt]
    rows = [{"prompt": prompt, "answer": pair.chosen}, {"prompt": prompt, "answer": pair.rejected}]
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stage = RunFolder(home / "first").run()["stages"]["reward"]
    folder = home / "runs" / ".store" / stage["key"][:2] / stage["key"]
    for model in (folder, "first:reward"):
        done = harness(home, "score", model, "rows.jsonl")
        assert done.returncode == 0, done.stderr
        rewards = [json.loads(line)["reward"] for line in done.stdout.splitlines()]
        # `score` may use bf16 where the processor has it; the run of this plan is fp32.
        assert rewards == pytest.approx([pair.chosen_score, pair.rejected_score], abs=0.05)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("not json\n", "rows.jsonl:1: not valid JSON"),
        ('{"prompt": "a"}\n', "rows.jsonl:1: expected"),
        ('{"prompt": "a", "answer": "b"}\n{"prompt": "a", "answer": 3}\n', "row 2: answer: expected text"),
        ('{"prompt": 3, "answer": "b"}\n', "row 1: prompt: expected text or chat messages"),
    ],
)
def test_score_says_which_row_is_wrong(home: Path, tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    done = harness(home, "score", "first:reward", tmp_path / "rows.jsonl")
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_report_renders_again_without_torch(home: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch is not for this command')\n")
    done = harness(home, "report", "first", "-o", tmp_path / "report.html", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "<html" in (tmp_path / "report.html").read_text()


def test_sft_on_conversations_against_the_base_itself(tmp_path: Path) -> None:
    turns = [[f"What is {number}?", f"It is {number}."] for number in range(40)]
    rows = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in turns]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "plan.yaml").write_text(
        "name: chats\n"
        "base: {type: tiny, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 300}\n"
        "data: {chats: {source: conversations, path: chats.jsonl, split: {train: 0.7, test: 0.3}}}\n"
        "stages: {sft: {aligner: sft, init: base, data: chats.train, max_steps: 3}}\n"
        "evaluate:\n"
        "  {baseline: base, candidates: [sft], suites: {heldout: {data: chats.test}}, generate: {max_new_tokens: 8},\n"
        "   metrics: [kl, length]}\n"
    )
    done = harness(tmp_path, "run", "plan.yaml", "--out", "run")
    assert done.returncode == 0, done.stderr
    found = {(each["model"], each["metric"], each["baseline"]) for each in estimates(tmp_path / "run")}
    assert {("base", "length", None), ("sft", "length", "base"), ("sft", "kl", None)} <= found
    assert ("base", "kl", None) not in found, "the base has no reference"


def test_a_judge_may_give_the_reward_of_ppo(home: Path) -> None:
    setting = "stages.ppo.reward={judge: reward-model, model: referee, max_length: 200}"
    done = harness(home, "run", "plan.yaml", "--out", "judged", "--only", "ppo", "--set", setting)
    assert done.returncode == 0, done.stderr
    stages = RunFolder(home / "judged").run()["stages"]
    assert {name: stage["status"] for name, stage in stages.items()} == {
        "base": "reused", "sft": "reused", "reward": "reused", "referee": "reused", "ppo": "done"
    }  # fmt: skip
    assert "judge 'referee' uses 'referee', and 'ppo' was trained against it" in done.stderr
    card = (home / "runs" / ".store" / stages["ppo"]["key"][:2] / stages["ppo"]["key"] / "README.md").read_text()
    assert "- reward: judge reward-model(model=referee)" in card
    again = harness(home, "run", "plan.yaml", "--out", "judged-again", "--only", "ppo", "--set", setting)
    assert "computed nothing" in again.stderr
    other = harness(home, "run", "plan.yaml", "--only", "ppo", "--out", "other", "--set", setting.replace("200", "201"))
    assert RunFolder(home / "other").run()["stages"]["ppo"]["status"] == "done", other.stderr
    scores = [each.value for each in RunFolder(home / "judged").scalars() if each.name == "unscored"]
    assert scores == [0.0] * 6
