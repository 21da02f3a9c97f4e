"""A run with a language model as its judge, against a server on loopback, as a user runs it: killed, continued, frozen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("uvicorn")

from chat_server import Answer, Request, completion, error, prefers_longer, serving
from micro import command, estimates, harness
from transformers_server import transformers_serve

from harness.rundir import RunFolder

pytestmark = pytest.mark.torch

KEY = "sk-loopback-0123456789abcdef"
PLAN = """\
name: judged
base: {type: tiny, hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 8, vocab_size: 300}
device: cpu
threads: 1
data:
  toy: {source: toy, pairs: 120, split: {train: 0.6, test: 0.4}}
stages:
  sft: {aligner: sft, init: base, data: toy.train, max_steps: 1, per_device_train_batch_size: 2}
evaluate:
  baseline: base
  candidates: [sft]
  suites: {heldout: {data: toy.test, limit: 24}}
  generate: {max_new_tokens: 6}
  judges:
    gpt: {judge: llm, model: judge, base_url: URL, api_key_env: LOOPBACK_KEY, max_retries: 0, timeout: 5, concurrency: 2,
          price_per_million: {input: 10, output: 10}, budget_usd: 4.0, budget_calls: 400}
  metrics: [win-rate]
  bootstrap: {resamples: 100}
"""


def test_a_run_is_killed_goes_on_and_is_judged_again_without_its_judge(tmp_path: Path) -> None:
    quoting, slow = True, True
    good: Counter[str] = Counter()

    def respond(request: Request, number: int) -> Answer:
        if quoting and number % 5 == 4:
            return error(500 if number % 2 else 400, f"your key {request.authorization} is odd")
        good[request.identity] += 1
        time.sleep(0.05 if slow else 0)
        return prefers_longer(request)

    with serving(respond) as server:
        (tmp_path / "plan.yaml").write_text(PLAN.replace("URL", server.url))
        checked = harness(tmp_path, "check", "plan.yaml", LOOPBACK_KEY=KEY)
        # Both orders on 24 prompts, and on 20 of them of four canaries that ask for something new.
        assert f"judge gpt: {2 * 24 + 2 * 20 * 4} calls to judge at {server.url}" in checked.stdout, checked.stderr
        assert not server.requests

        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "LOOPBACK_KEY": KEY}
        running = subprocess.Popen(
            command("run", "plan.yaml", "--out", "killed"), cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
        )
        while len(server.requests) < 12 and running.poll() is None:
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
        running.wait()
        slow = False
        done = harness(tmp_path, "run", "plan.yaml", "--out", "first", LOOPBACK_KEY=KEY)
        assert done.returncode == 0, done.stderr
        judgements = RunFolder(tmp_path / "first").judgements()["gpt", "sft--base", "heldout"]
        canaries = RunFolder(tmp_path / "first").canaries()["gpt"]
        failed = [each for each in (*judgements, *canaries) if each.preference is None]
        assert failed
        assert all("HTTP" in str(each.reason) for each in failed)
        quoting = False
        last = harness(tmp_path, "run", "plan.yaml", "--out", "second", LOOPBACK_KEY=KEY)
        assert last.returncode == 0, last.stderr
        count = len(server.requests)
        assert harness(tmp_path, "run", "plan.yaml", "--out", "third", LOOPBACK_KEY=KEY).returncode == 0
        assert (
            harness(
                tmp_path, "run", "plan.yaml", "--out", "wider", "--set", "evaluate.bootstrap.level=0.8", LOOPBACK_KEY=KEY
            ).returncode
            == 0
        )
        assert len(server.requests) == count, "statistics ask nothing"

    # Only what was under way when the run was killed is asked a second time.
    assert sum(good.values()) - len(good) <= 2
    run = RunFolder(tmp_path / "second")
    judgements = run.judgements()["gpt", "sft--base", "heldout"]
    assert len(judgements) == 24
    assert all(each.preference is not None and len(each.orders) == 2 for each in judgements)
    assert all(each.cost and each.usage and each.usage.input_tokens for each in judgements)
    spent = [RunFolder(tmp_path / name).run()["judges"]["gpt"] for name in ("first", "second")]
    assert sum(each["calls"] for each in spent) < count
    assert spent[1]["calls"] <= len(failed) * 2
    assert RunFolder(tmp_path / "third").run()["judges"] == {}
    assert "gpt" in RunFolder(tmp_path / "third").report_path.read_text()

    # The judge is gone; what it said is in the run folder.
    setting = "evaluate.judges.gpt.judgements=second/replies/gpt"
    frozen = harness(tmp_path, "run", "plan.yaml", "--out", "frozen", "--store", "another", "--set", setting)
    assert frozen.returncode == 0, frozen.stderr
    assert estimates(tmp_path / "frozen") == estimates(tmp_path / "second")
    assert json.loads((tmp_path / "frozen/run.json").read_text())["judges"] == {}

    pieces = [KEY[start : start + 8].encode() for start in range(len(KEY) - 7)]
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(piece in content for piece in pieces), path
    told = "".join(each.stdout + each.stderr for each in (checked, done, last))
    assert not any(piece.decode() in told for piece in pieces)


REWARDED = """\
name: rewarded
base: {type: tiny, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 16, vocab_size: 300}
device: cpu
threads: 1
data:
  toy: {source: toy, pairs: 40}
stages:
  sft: {aligner: sft, init: base, data: toy, max_steps: 1, per_device_train_batch_size: 2}
  ppo: {aligner: ppo, init: sft, data: toy, max_steps: 2, rollout_batch_size: 4, per_device_train_batch_size: 4,
        num_mini_batches: 1, response_length: 8,
        reward: {judge: rubric, model: judge, base_url: URL, template: mine.txt, criteria: {short: Brevity.}}}
"""


def test_a_rubric_rewards_ppo_and_its_calls_are_counted(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(
        "[user]\nMy own: $criterion\n$conversation\n$answer\nEnd with SCORE: 1 to SCORE: 5.\n"
    )

    def respond(request: Request, number: int) -> Answer:
        return completion(f"SCORE: {1 + len(request.answers[0]) % 5}")

    with serving(respond) as server:
        (tmp_path / "plan.yaml").write_text(REWARDED.replace("URL", server.url))
        done = harness(tmp_path, "run", "plan.yaml", "--out", "run")
        assert done.returncode == 0, done.stderr
        assert all(request.text.startswith("My own: Brevity.") for request in server.requests)
        calls = RunFolder(tmp_path / "run").run()["judges"]["ppo.reward"]["calls"]
        assert calls == len(server.requests)
        assert 1 <= calls <= 2 * 4 + 64, "two rollouts of four answers, and what the reward's scale is measured on"
        kept = list((tmp_path / "runs/.store/replies").rglob("*.json"))
        assert len(kept) == len({request.identity for request in server.requests})


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["plan.yaml", "quickstart"])
def test_a_plan_is_judged_by_a_model_behind_transformers_serve(plan: str, home: Path, tmp_path: Path) -> None:
    with transformers_serve(tmp_path, ["VERDICT: A"]) as (url, models):
        judge = f"{{judge: llm, model: {models['VERDICT: A']}, base_url: '{url}', max_tokens: 32, timeout: 300}}"
        settings = ["--set", f"evaluate.judges.local={judge}", "--set", "evaluate.suites.heldout.limit=6"]
        done = harness(home, "run", plan, "--out", tmp_path / "run", *settings, timeout=2400)
    assert done.returncode == 0, done.stderr
    run = RunFolder(tmp_path / "run")
    judgements = [each for (name, *_), group in run.judgements().items() if name == "local" for each in group]
    assert len(judgements) == 2 * len(run.samples()["dpo", "heldout"])
    # The model says A whatever it reads: each order is won by the one that is shown first, and no pair by either.
    assert {tuple(order.preference for order in each.orders) for each in judgements} == {(1.0, 0.0)}
    rates = {
        each["model"]: each["value"]
        for each in estimates(run.path)
        if (each["metric"], each["judge"]) == ("win-rate", "local")
    }
    assert rates == {"dpo": 0.5, "ppo": 0.5}
    lines = [line for path in (run.path / "replies").rglob("*.jsonl") for line in path.read_text().splitlines()]
    questions = {json.loads(line)["key"] for line in lines}
    # One more for each candidate where the server refuses to be asked for log-probabilities, instead of leaving them out.
    assert len(questions) <= run.run()["judges"]["local"]["calls"] <= len(questions) + 2
