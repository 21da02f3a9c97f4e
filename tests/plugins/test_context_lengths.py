"""No aligner and no scorer reads beyond the last position of a model: learned positions end in an IndexError there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import harness

torch = pytest.importorskip("torch")
from harness_plugins.aligners.dpo import DPO  # noqa: E402
from harness_plugins.aligners.reward import RewardModel  # noqa: E402
from harness_plugins.aligners.sft import SFT  # noqa: E402
from ppo_loop import Context, make_inputs  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel  # noqa: E402

from harness.engine.models import load_policy, reward_model_from, save_model  # noqa: E402
from harness.engine.score import score_answers  # noqa: E402
from harness.evaluation.steps import score_pairs  # noqa: E402

pytestmark = pytest.mark.torch

POSITIONS = 32
LONG = (harness.Message(role="user", content="lazy dog " * 20),)
ROWS = [harness.Preference(id=str(i), root=str(i), prompt=LONG, chosen="fox", rejected="day") for i in range(4)]
OPTIONS = {"max_steps": 1, "per_device_train_batch_size": 2, "max_length": 64}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2 with few positions, and the tiny base's tokenizer."""
    folder = tmp_path_factory.mktemp("short")
    base = make_inputs(folder)["init"].path
    _, tokenizer = load_policy(base, Context(folder).compute)
    special = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=POSITIONS, **special)
    save_model(GPT2LMHeadModel(config), tokenizer, folder / "short")
    return folder / "short"


@pytest.mark.parametrize(
    ("aligner", "options"), [(SFT, {}), (RewardModel, {}), (DPO, {"loss_type": "simpo"})], ids=["sft", "reward", "dpo"]
)
def test_rows_are_cut_to_the_models_context(short: Path, tmp_path: Path, aligner: Any, options: dict[str, Any]) -> None:
    context: Any = Context(tmp_path)
    inputs = {
        "init": harness.Artifact("base", "model", short, "1"),
        "data": harness.Dataset("words", "preferences", tuple(ROWS), "2"),
    }
    aligner().run(aligner.Config(**OPTIONS | options), inputs, context)
    assert f"max_length 64 is more than the model's context: it is {POSITIONS} here" in context.notes
    assert "words: 4 of 4 prompts were cut to max_length, oldest turns first" in context.notes


def test_scores_are_of_cut_prompts(short: Path, tmp_path: Path) -> None:
    compute = Context(tmp_path).compute
    model, tokenizer = reward_model_from(short, compute, seed=0)
    save_model(model, tokenizer, tmp_path / "reward")
    reward = harness.Artifact("reward", "reward-model", tmp_path / "reward", "3")
    pairs = score_pairs(reward, "heldout", ROWS, 64, compute)
    scores = score_answers(model, tokenizer, [LONG] * 2, ["fox", "day"], 64, compute)
    assert [pairs[0].chosen_score, pairs[0].rejected_score] == pytest.approx(scores, abs=1e-5)
