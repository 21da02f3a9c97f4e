"""The speed benchmarks on a tiny model: what they measure is what both sides were asked for, and their tables say it."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from harness_benchmarks.speed import generate, pairs, ppo  # noqa: E402
from tiny_model import TINY  # noqa: E402

from harness.components import Compute  # noqa: E402
from harness.engine.base import build_base  # noqa: E402

pytestmark = pytest.mark.torch

SENTENCE = "how many legs has a spider that walks over the wide table by night ?"
WORDS = SENTENCE.split()


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The benchmarks set the threads of their own processes; here they run in ours."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speed") / "base"
    build_base(TINY, [SENTENCE] * 20, folder, Compute("cpu", "fp32", 1), seed=5)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six rows of hh-rlhf: prompts of different length, two answers each."""
    path = tmp_path_factory.mktemp("data") / "hh.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for row in range(6):
            prompt = f"\n\nHuman: {' '.join(WORDS[: 4 + row])}\n\nAssistant: "
            answers = {"chosen": " ".join(WORDS[row : row + 5]), "rejected": " ".join(WORDS[-row - 3 :])}
            file.write(json.dumps({name: prompt + answer for name, answer in answers.items()}) + "\n")
    return path


CONTESTANTS = [(task, name) for task, contestants in pairs.CONTESTANTS.items() for name in contestants]


@pytest.mark.filterwarnings("ignore")  # TRL's
@pytest.mark.parametrize(("task", "name"), CONTESTANTS)
def test_every_contestant_is_timed_from_the_starting_model_on(
    task: str, name: str, base: Path, data: Path, tmp_path: Path
) -> None:
    options = Namespace(base=str(base), data=data, pairs=4, threads=1)
    model = pairs.prepare(options, tmp_path)
    changed = pairs.CONTESTANTS[task][name]
    job = {"task": task, "precision": "fp32", "name": name, "changed": changed, "model": str(model)}
    result = pairs.measure({**job, "batch": 2, "threads": 1, "device": "cpu"})
    assert len(result["losses"]) == 2  # 4 pairs, 2 to a step, one pass
    if task == "dpo":  # the warm-up before it has moved no weight
        assert result["losses"][0] == pytest.approx(math.log(2), abs=1e-6)
    columns = json.loads((model / "pairs.json").read_text(encoding="utf-8"))
    tokens, answers = (sum(len(ids) for row in columns for ids in row[first:]) for first in (0, 1))
    assert result["tokens"] == tokens
    # 2 layers of four matrices of 32 × 32 and three of 32 × 64; 2 operations a weight and token, three times, and once more for
    # DPO's reference. The output layer is for answer tokens alone.
    layers = 2 * (4 * 32 * 32 + 3 * 32 * 64)
    vocabulary = json.loads((model / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    assert result["flops"] == (8 * (layers * tokens + vocabulary * 32 * answers) if task == "dpo" else 6 * layers * tokens)
    assert result["matmul_rate"] > 0


def test_pairs_prints_medians_and_their_ratios() -> None:
    """Of 3, 1 and 2 seconds the median is 2; of 9, 8 and 7 it is 8, 4 times as many. 10 operations in 2 s at 20 a second: 25 %."""
    names = list(pairs.CONTESTANTS["dpo"])
    seconds = {names[0]: [3.0, 1.0, 2.0], names[1]: [9.0, 8.0, 7.0], names[2]: [4.0, 4.0, 4.0]}
    measured = {"peak_bytes": 2e9, "flops": 10.0, "matmul_rate": 20.0, "tokens": 8, "losses": [0.6931, 0.5]}
    results = [{"name": name, "seconds": each, **measured} for name, found in seconds.items() for each in found]
    lines = list(pairs.table("dpo", "fp32", results))
    assert "| harness | 2.0 | 1.00 | 4 | 2.0 | 25% | 0.6931 |" in lines
    assert f"| {names[1]} | 8.0 | 4.00 | 1 | 2.0 | 6% | 0.6931 |" in lines


@pytest.mark.slow
def test_generation_gives_the_texts_of_the_tutorial(base: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--prompts", "5", "--max-new-tokens", "6", "--rounds", "1", "--threads", "1"]
    generate.main(["--data", str(data), "--base", str(base), *size, "--tasks", "generate", "--precisions", "fp32"])
    printed = capsys.readouterr().out
    assert "5 prompts of hh.jsonl, greedy, up to 6 new tokens" in printed
    row = next(line for line in printed.splitlines() if line.startswith("| harness, fp32"))
    assert row.endswith("| 5 of 5 |")


def test_scores_are_those_of_the_tutorial(base: Path, data: Path, tmp_path: Path) -> None:
    model = generate.prepare(Namespace(base=str(base), data=data, prompts=5, threads=1), tmp_path)
    job = {"task": "score", "model": str(model), "threads": 1, "device": "cpu", "max_new_tokens": 6}
    fp32 = {name: about for name, about in generate.CONTESTANTS.items() if about["precision"] == "fp32"}
    results = [{"name": name, **about, **generate.measure(job | about)} for name, about in fp32.items()]
    assert [len(each["output"]) for each in results] == [10, 10]
    assert results[0]["tokens"] == results[1]["tokens"]
    row = list(generate.table("score", results))[-1]
    assert row.startswith("| harness, fp32 |")
    assert float(row.split("|")[-2]) < 1e-5


def test_more_prompts_than_there_are_are_refused(base: Path, data: Path) -> None:
    with pytest.raises(SystemExit, match="there are 6 prompts, and --prompts asks for 7"):
        generate.main(["--data", str(data), "--base", str(base), "--prompts", "7"])


def test_episodes_per_second_leave_the_first_iteration_out() -> None:
    """128 answers an iteration: two iterations in the 4 seconds after the first one."""
    assert ppo.episodes_per_second({"ended": [10.0, 11.0, 14.0]}) == 64


def test_the_true_reward_at_a_kl_lies_between_the_nearest_policies() -> None:
    def at(kl: float, truth: float) -> Any:
        return ppo.Quality(truth=truth, win_rate=0.5, win_rate_error=0.0, kl=kl)

    curve = [at(0.0, 4.0), at(1.0, 5.0), at(3.0, 8.0)]
    assert ppo.truth_at(curve, 1.5) == 5.75  # a quarter of the way from 5 to 8
    assert ppo.truth_at(curve, 1.0) == 5.0
    assert ppo.truth_at(curve, 9.0) == 8.0  # beyond what it reached, its last
