"""What only a GPU can show: the numbers are the processor's, and a device that runs out of memory gets smaller batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
import small  # noqa: E402
from small import PAD, VOCABULARY, Recorder  # noqa: E402

import harness  # noqa: E402
from harness import cli  # noqa: E402
from harness.engine.generate import generate  # noqa: E402
from harness.engine.learning import PairPreference  # noqa: E402
from harness.engine.pairs import choose_layout, pair_logprobs, pair_scores, read_all  # noqa: E402
from harness.engine.preference_losses import LossOptions, preference_loss  # noqa: E402
from harness.engine.training import train  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

CPU, GPU = harness.Compute("cpu", "fp32", 1), harness.Compute("cuda", "fp32", 1)
BF16 = harness.Compute("cuda", "bf16", 1)
MODELS = {"llama": small.llama, "gpt2": small.gpt2, "gpt-neox": small.gpt_neox}


@pytest.fixture
def room() -> Iterator[Callable[[float], None]]:
    """Leaves the process a share of the memory that it has held at its peak so far, whatever the card has."""
    whole = torch.cuda.get_device_properties(0).total_memory

    def leave(share: float) -> None:
        held = torch.cuda.max_memory_reserved()
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(share * held / whole)

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield leave
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("name", MODELS)
def test_log_probabilities_and_layout_are_the_processors(name: str) -> None:
    pairs = small.pairs(40)
    model = MODELS[name]()
    expected = read_all(pair_logprobs, model, pairs, choose_layout(model, pair_logprobs, PAD, CPU, 32), PAD, CPU)
    model.cuda()
    for compute, tolerance in ((GPU, 1e-4), (BF16, 0.5)):
        layout = choose_layout(model, pair_logprobs, PAD, compute, 32)
        assert layout.shared, layout.reason
        found = read_all(pair_logprobs, model, pairs, layout, PAD, compute)
        torch.testing.assert_close(found.cpu(), expected, rtol=tolerance, atol=tolerance)


def test_scores_are_the_processors() -> None:
    model, pairs = small.reward_llama(), small.pairs(40)
    layout = choose_layout(model, pair_scores, PAD, CPU, 32)
    expected = read_all(pair_scores, model, pairs, layout, PAD, CPU)
    found = read_all(pair_scores, model.cuda(), pairs, layout, PAD, GPU)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_and_their_log_probabilities_are_the_processors(name: str, temperature: float) -> None:
    model = MODELS[name]()
    there = _answers(model, CPU, temperature=temperature)
    here = _answers(model.cuda(), GPU, temperature=temperature)
    assert [answer.ids for answer in here] == [answer.ids for answer in there]
    for one, other in zip(here, there, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_a_training_is_the_processors(tmp_path: Path) -> None:
    there, here = (_losses(small.llama(), compute, tmp_path, rows=16, step=4) for compute in (CPU, GPU))
    assert here == pytest.approx(there, rel=1e-3)
    assert there[-1] < there[0]


def test_a_training_that_runs_out_of_memory_goes_on_with_smaller_batches(
    tmp_path: Path, room: Callable[[float], None]
) -> None:
    whole = _losses(_wide(), GPU, tmp_path / "whole", rows=256, step=128)
    room(0.6)
    compute = harness.Compute("cuda", "fp32", 1)
    fewer = _losses(_wide(), compute, tmp_path / "fewer", rows=256, step=128)
    assert compute.memory.halvings >= 1
    assert fewer == pytest.approx(whole, rel=1e-3)


def test_generation_that_runs_out_of_memory_goes_on_with_smaller_batches(room: Callable[[float], None]) -> None:
    model = _wide().cuda()
    whole = _answers(model, GPU, rows=256)
    assert GPU.memory.halvings == 0
    room(0.5)
    compute, told = harness.Compute("cuda", "fp32", 1), []
    compute.memory.on_halved = told.append
    fewer = _answers(model, compute, rows=256)
    assert compute.memory.halvings >= 1
    assert all("out of memory with" in text for text in told)
    assert [answer.ids for answer in fewer] == [answer.ids for answer in whole]


def test_a_pass_that_runs_out_of_memory_goes_on_with_smaller_batches(room: Callable[[float], None]) -> None:
    model, pairs = _wide().cuda(), small.pairs(2000)
    layout = choose_layout(model, pair_logprobs, PAD, GPU, 32)
    whole = read_all(pair_logprobs, model, pairs, layout, PAD, GPU)
    assert GPU.memory.halvings == 0
    room(0.6)
    compute = harness.Compute("cuda", "fp32", 1)
    fewer = read_all(pair_logprobs, model, pairs, layout, PAD, compute)
    assert compute.memory.halvings >= 1
    torch.testing.assert_close(fewer, whole, rtol=1e-4, atol=1e-4)


PLAN = """\
name: on-a-gpu
seed: 3
base: {type: tiny, hidden_size: 256, num_hidden_layers: 4, num_attention_heads: 4, intermediate_size: 512, vocab_size: 400}
device: cuda
data:
  toy: {source: toy, pairs: 300, split: {train: 0.5, test: 0.5}}
stages:
  sft: {aligner: sft, init: base, data: toy.train, answers: both, max_steps: 1, per_device_train_batch_size: 2}
evaluate:
  baseline: base
  candidates: [sft]
  suites: {heldout: {data: toy.test, limit: 100}}
  judges:
    truth: {judge: toy-truth}
  metrics: [win-rate, length]
  bootstrap: {resamples: 100}
"""


def test_a_run_that_runs_out_of_memory_says_so_and_has_it_in_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], room: Callable[[float], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(PLAN)
    for name, length in (("whole", 60), ("fewer", 61)):
        arguments = ["run", "plan.yaml", "--out", name, "--set", f"evaluate.generate.max_new_tokens={length}"]
        assert cli.cli.main(arguments, standalone_mode=False) == 0
        lock = json.loads(Path(name, "plan.lock.json").read_text())
        assert lock["compute"]["device"] == "cuda"
        stages = json.loads(Path(name, "run.json").read_text())["stages"]
        assert stages["sft"]["peak_device_memory_bytes"] > 2**20
        if name == "whole":
            assert "token_budget" not in lock
            room(0.5)
    assert lock["token_budget"]["halvings"] >= 1
    assert lock["token_budget"]["last"] in capsys.readouterr().err
    assert len(Path("fewer", "samples", "base", "heldout.jsonl").read_text().splitlines()) == 100


def _losses(model: Any, compute: harness.Compute, folder: Path, rows: int, step: int) -> list[float]:
    """Of each step of three passes of DPO."""
    model, pairs = model.to(compute.device), small.pairs(rows)
    layout = choose_layout(model, pair_logprobs, PAD, compute, 32)
    reference = read_all(pair_logprobs, model, pairs, layout, PAD, compute)

    def loss(logprobs: Any) -> torch.Tensor:
        return preference_loss(logprobs, ["sigmoid"], [1.0], LossOptions())

    objective = PairPreference(model, pairs, layout, PAD, compute, loss, 0.1, reference)
    config = harness.TrainingConfig(
        learning_rate=1e-3, per_device_train_batch_size=step, num_train_epochs=3, logging_steps=1
    )
    context = Recorder(folder / compute.device)
    context.compute = compute
    train(model, objective, config, context)
    return [values["loss"] for values in context.logged.values()]


def _wide() -> Any:
    """A model whose activations, not its weights, are what its memory goes to."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=VOCABULARY, pad_token_id=PAD)).eval()


def _answers(model: Any, compute: harness.Compute, rows: int = 12, temperature: float = 0.0) -> Any:
    prompts = [each.prompt_ids for each in small.conversations(rows)]
    return generate(
        model,
        prompts,
        list(range(rows)),
        compute,
        max_new_tokens=48,
        stop={3},
        pad_id=PAD,
        temperature=temperature,
        logprobs=True,
    )
