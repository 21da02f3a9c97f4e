"""PPO here against the PPOTrainer of TRL 1.12, in the toy world: episodes per second, and the true reward at equal KL.

    python -m harness_benchmarks.speed.ppo --peer-python PEER/bin/python --seeds 10

The peer needs an environment of its own: python -m venv PEER && PEER/bin/pip install torch==2.13.0 trl==1.12.0 transformers
datasets pandas. Both sides train the same policy (the quickstart's `sft`) with the same reward model, prompts and options.
Each run is a process of its own. Speed is measured between the ends of the first and of the last iteration, runs taking
turns; what was learned is measured on held-out prompts, by the toy world's truth and the exact KL from `sft`.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import harness
from harness.compute import resolve_compute
from harness.data import DataSets
from harness.plan import Graph, check, read_document
from harness.plugins import load_plugins

OPTIONS: Mapping[str, Any] = {
    "learning_rate": 3e-4,
    "lr_scheduler_type": "linear",
    "rollout_batch_size": 128,
    "per_device_train_batch_size": 64,
    "num_ppo_epochs": 2,
    "num_mini_batches": 2,
    "response_length": 48,
    "temperature": 1.0,
    "kl_coef": 0.05,
    "cliprange": 0.2,
    "cliprange_value": 0.2,
    "vf_coef": 0.1,
    "gamma": 1.0,
    "lam": 0.95,
    "missing_eos_penalty": 1.0,
}
"""The quickstart's; TRL has one learning rate for policy and critic, so both sides have."""

STEPS = 25
KEPT = (5, 10, 15, 20, 25)
HELD_OUT = 300
DIVERGED_KL = 50.0


@dataclass(frozen=True)
class World:
    """What both sides train on: folders of the policy and the reward model, and a file of prompts as token ids."""

    folder: Path
    init: Path
    reward: Path
    prompts: Path
    data: harness.Dataset
    held_out: Sequence[harness.PromptRow]
    compute: harness.Compute


@dataclass(frozen=True)
class Quality:
    """A policy on held-out prompts: mean true reward, share of prompts won against `sft` (ties half), nats per answer."""

    truth: float
    win_rate: float
    win_rate_error: float
    kl: float


class Clock(harness.StageContext):
    """A stage outside of a run: notes when an iteration ended, keeps the policy at the steps that are asked for."""

    name = "benchmark"

    def __init__(self, settings: Mapping[str, Any], compute: harness.Compute) -> None:
        self.seed, self.compute = settings["seed"], compute
        self.output, self.checkpoints = Path(settings["output"]), Path(settings["output"]) / "checkpoints"
        self.output.mkdir(parents=True, exist_ok=True)
        self.started = time.perf_counter()
        self.ended: list[float] = []

    def log(self, step: int, values: Mapping[str, float], total: int | None = None) -> None:
        """Note the time."""
        self.ended.append(time.perf_counter() - self.started)

    def note(self, text: str) -> None:
        """Say it."""
        print(f"harness: {text}", file=sys.stderr)


def work(path: Path) -> None:
    """One run of the aligner, as `trl_ppo.main` is one of the peer's."""
    from harness_plugins.aligners.ppo import PPOConfig
    from harness_plugins.aligners.ppo_training import PPOTraining

    from harness.engine.models import save_model

    settings = json.loads(path.read_text(encoding="utf-8"))
    world = open_world(Path(settings["folder"]), settings["threads"])
    config = PPOConfig(**settings["options"], max_length=512, save_steps=10**6)
    context = Clock(settings, world.compute)
    loop = PPOTraining(
        config,
        harness.Artifact("sft", "model", world.init, ""),
        harness.Artifact("reward", "reward-model", world.reward, ""),
        world.data,
        context,
    )

    def log(step: int, values: Mapping[str, float], total: int | None = None) -> None:
        Clock.log(context, step, values, total)
        if step in settings["keep"]:
            save_model(loop.policy, loop.tokenizer, context.output / f"step-{step}")

    context.log = log  # type: ignore[method-assign]
    context.started = time.perf_counter()
    loop.run()
    result = {
        "ended": context.ended,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {name: version(name) for name in ("alignment-harness", "torch", "transformers")},
        "configuration": config.model_dump(mode="json"),
    }
    Path(settings["result"]).write_text(json.dumps(result), encoding="utf-8")


# --- the world ------------------------------------------------------------------------------------------------------------


def _graph() -> Graph:
    return check(read_document(Path(__file__).parents[1] / "quickstart.yaml"), load_plugins().registry())


def make_world(folder: Path) -> None:
    """Train `sft` and `reward` of the quickstart, and put them where both sides find them.

    The reward model's head is divided by the deviation of its scores on the answers of `sft`: ours scales scores by it, the
    peer does not, and with a deviation of 1 the coefficient of the KL penalty means the same on both sides.
    """
    from harness.engine.chat import stop_ids, tokenize_prompts
    from harness.engine.generate import generate
    from harness.engine.models import load_policy, load_reward_model, save_model, score_head
    from harness.engine.score import score_sequences

    run = folder / "run"
    command = [sys.executable, "-m", "harness", "run", "quickstart", "--only", "reward"]
    subprocess.run([*command, "--out", str(run), "--store", str(folder / "store")], check=True)
    stages = json.loads((run / "run.json").read_text(encoding="utf-8"))["stages"]
    keys = {name: str(stages[name]["key"]) for name in ("sft", "reward")}
    paths = {name: folder / "store" / key[:2] / key for name, key in keys.items()}
    graph = _graph()
    compute, data = resolve_compute(graph.plan), DataSets(graph).get("toy.train")
    policy, tokenizer = load_policy(paths["sft"], compute)
    save_model(policy, tokenizer, folder / "sft")
    encoded, _ = tokenize_prompts(data.rows, tokenizer, 512, OPTIONS["response_length"])
    prompts = [ids for ids in encoded if ids is not None]
    (folder / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")
    some = prompts[:512]
    answers = generate(
        policy,
        some,
        range(len(some)),
        compute,
        max_new_tokens=OPTIONS["response_length"],
        stop=stop_ids(tokenizer, policy),
        pad_id=tokenizer.pad_token_id,
    )
    reward, _ = load_reward_model(paths["reward"], compute)
    whole = [[*prompt, *answer.ids] for prompt, answer in zip(some, answers, strict=True)]
    scores = score_sequences(reward, whole, compute, pad_id=tokenizer.pad_token_id)
    score_head(reward).weight.data /= float(scores.std())
    save_model(reward, tokenizer, folder / "reward")


def open_world(folder: Path, threads: int) -> World:
    """What `make_world` left."""
    graph = _graph()
    data = DataSets(graph)
    compute = harness.Compute("cpu", "fp32", threads)
    held_out = data.get("toy.test").rows[:HELD_OUT]
    return World(
        folder, folder / "sft", folder / "reward", folder / "prompts.json", data.get("toy.train"), held_out, compute
    )


def run_side(world: World, python: str, side: str, name: str, seed: int, steps: int, keep: Sequence[int]) -> dict[str, Any]:
    """One run of one side in a process of its own. Raises CalledProcessError if it fails."""
    outcome = world.folder / f"{side}-{name}.json"
    settings = {
        "folder": str(world.folder),
        "init": str(world.init),
        "reward": str(world.reward),
        "prompts": str(world.prompts),
        "output": str(world.folder / side / name),
        "result": str(outcome),
        "options": {**OPTIONS, "max_steps": steps},
        "threads": world.compute.threads,
        "seed": seed,
        "keep": list(keep),
    }
    path = world.folder / f"{side}-{name}.settings.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    ours = [sys.executable, "-m", "harness_benchmarks.speed.ppo", "--worker", str(path)]
    peers = [python, str(Path(__file__).with_name("trl_ppo.py")), str(path)]
    subprocess.run(ours if side == "harness" else peers, check=True, stdout=subprocess.DEVNULL)
    result: dict[str, Any] = json.loads(outcome.read_text(encoding="utf-8"))
    return result


# --- what is measured -----------------------------------------------------------------------------------------------------


def episodes_per_second(result: Mapping[str, Any]) -> float:
    """Between the ends of the first and the last iteration, so that what happens once does not count."""
    ended = result["ended"]
    return float(OPTIONS["rollout_batch_size"] * (len(ended) - 1) / (ended[-1] - ended[0]))


def answer_held_out(world: World, folder: Path) -> tuple[list[float], float]:
    """The true reward of each held-out answer of a policy, and its mean exact KL from `sft` in nats per answer."""
    from harness_plugins.toy import truth

    from harness.engine.chat import decode_answer, fit_prompts, stop_ids
    from harness.engine.generate import generate
    from harness.engine.likelihood import TokenSequence, answer_divergence
    from harness.engine.models import load_policy

    policy, tokenizer = load_policy(folder, world.compute)
    reference, _ = load_policy(world.init, world.compute)
    stop, pad_id = stop_ids(tokenizer, policy), tokenizer.pad_token_id
    prompts = fit_prompts(tokenizer, [row.prompt for row in world.held_out], 64, 512)
    seeds = range(len(prompts))
    answers = generate(policy, prompts, seeds, world.compute, max_new_tokens=64, stop=stop, pad_id=pad_id)
    sequences = [TokenSequence(prompt, answer.ids) for prompt, answer in zip(prompts, answers, strict=True)]
    divergences = answer_divergence(policy, reference, sequences, world.compute, pad_id=pad_id)
    truths = [
        truth(row.prompt[-1].content, decode_answer(tokenizer, answer.ids, stop))
        for row, answer in zip(world.held_out, answers, strict=True)
    ]
    return truths, statistics.fmean(each.kl for each in divergences)


def quality(world: World, folder: Path, baseline: Sequence[float]) -> Quality:
    """How good a policy is; the error is the standard error over prompts."""
    truths, kl = answer_held_out(world, folder)
    wins = [(mine > other) + 0.5 * (mine == other) for mine, other in zip(truths, baseline, strict=True)]
    error = statistics.stdev(wins) / math.sqrt(len(wins))
    return Quality(statistics.fmean(truths), statistics.fmean(wins), error, kl)


def truth_at(curve: Sequence[Quality], kl: float) -> float:
    """The true reward where a run's policies pass a KL, between the nearest two, straight."""
    below = max((each for each in curve if each.kl <= kl), key=lambda each: each.kl, default=curve[0])
    above = min((each for each in curve if each.kl >= kl), key=lambda each: each.kl, default=below)
    if above.kl == below.kl:
        return below.truth
    share = (kl - below.kl) / (above.kl - below.kl)
    return below.truth + share * (above.truth - below.truth)


def compare_speed(world: World, python: str, repeats: int, steps: int) -> None:
    """Print both configurations and the table of speeds."""
    results: dict[str, list[dict[str, Any]]] = {"harness": [], "trl": []}
    for number in range(repeats):
        for side, found in results.items():
            found.append(run_side(world, python, side, f"speed-{number}", number, steps, ()))
            print(f"{side}: {episodes_per_second(found[-1]):.1f} episodes/s", file=sys.stderr)
    for side, found in results.items():
        print(f"{side}: {json.dumps(found[0]['versions'])}\n{json.dumps(found[0]['configuration'], indent=1)}\n")
    speeds = {side: [episodes_per_second(each) for each in found] for side, found in results.items()}
    medians = {side: statistics.median(each) for side, each in speeds.items()}
    print("| | episodes/s, median | all runs | peak memory, MB |\n| --- | --- | --- | --- |")
    for side, found in results.items():
        memory = statistics.median(each["peak_memory_bytes"] for each in found) / 1e6
        print(f"| {side} | {medians[side]:.1f} | {', '.join(f'{each:.1f}' for each in speeds[side])} | {memory:.0f} |")
    print(
        f"\nratio: {medians['harness'] / medians['trl']:.2f}, {steps - 1} iterations of {OPTIONS['rollout_batch_size']}\n"
    )


def compare_quality(world: World, python: str, seeds: Sequence[int]) -> None:
    """Print, for each seed and side, how the run ended, and the true reward of both at the largest KL that both reached."""
    baseline, _ = answer_held_out(world, world.init)
    print(f"sft: true reward {statistics.fmean(baseline):.2f} on {len(baseline)} held-out prompts\n")
    print("| seed | side | diverged | win rate against sft | KL | true reward | true reward at the common KL |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for seed in seeds:
        curves: dict[str, list[Quality]] = {}
        for side in ("harness", "trl"):
            try:
                run_side(world, python, side, f"seed-{seed}", seed, STEPS, KEPT)
            except subprocess.CalledProcessError as error:
                print(f"{side}, seed {seed}: {error}", file=sys.stderr)
                continue
            start = Quality(statistics.fmean(baseline), 0.5, 0.0, 0.0)
            folders = [world.folder / side / f"seed-{seed}" / f"step-{step}" for step in KEPT]
            curves[side] = [start, *(quality(world, folder, baseline) for folder in folders)]
        common = min(max(each.kl for each in curve) for curve in curves.values()) if curves else 0.0
        for side in ("harness", "trl"):
            if side not in curves:
                print(f"| {seed} | {side} | yes: the run failed | | | | |")
                continue
            last = curves[side][-1]
            diverged = "yes" if not math.isfinite(last.kl) or last.kl > DIVERGED_KL else "no"
            print(
                f"| {seed} | {side} | {diverged} | {last.win_rate:.3f} ± {last.win_rate_error:.3f} | {last.kl:.2f} | "
                f"{last.truth:.2f} | {truth_at(curves[side], common):.2f} at {common:.2f} nats |",
                flush=True,
            )
    print()


def main() -> None:
    """Parse the command line and run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="harness_benchmarks.speed.ppo"
    )
    parser.add_argument("--peer-python", help="the interpreter of the environment with TRL 1.12")
    parser.add_argument("--folder", type=Path, help="keep models and results there, and reuse its world")
    parser.add_argument("--seeds", type=int, default=1, help="runs per side whose policies are measured; 0 for none")
    parser.add_argument("--first-seed", type=int, default=0, help="of those runs, to go on with a --folder")
    parser.add_argument("--repeats", type=int, default=3, help="runs per side that are timed; 0 for none")
    parser.add_argument("--steps", type=int, default=6, help="iterations of a run that is timed")
    parser.add_argument("--threads", type=int, default=2, help="of torch, on both sides")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker)
        return
    if not arguments.peer_python:
        parser.error("--peer-python: name the interpreter of an environment with trl==1.12.0")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "reward").exists():
            make_world(folder)
        world = open_world(folder, arguments.threads)
        print(
            f"{platform.machine()}, {platform.platform()}, Python {platform.python_version()}, {arguments.threads} threads\n"
        )
        if arguments.repeats:
            compare_speed(world, arguments.peer_python, arguments.repeats, arguments.steps)
        if arguments.seeds:
            first = arguments.first_seed
            compare_quality(world, arguments.peer_python, range(first, first + arguments.seeds))


if __name__ == "__main__":
    main()
