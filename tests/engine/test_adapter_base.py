"""A LoRA adapter as the starting model: it is merged into the model that it was trained on, or refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
import peft  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from harness import Compute  # noqa: E402
from harness.engine.base import build_base  # noqa: E402
from harness.engine.models import load_policy, quiet  # noqa: E402
from harness.errors import UsageError  # noqa: E402
from harness.models import base_identity  # noqa: E402
from harness.plan import check, parse_document  # noqa: E402
from harness.plugins import load_plugins  # noqa: E402

pytestmark = pytest.mark.torch

R, ALPHA, LAYER = 4, 8, "model.layers.0.mlp.down_proj"
PREFIX = f"base_model.model.{LAYER}"


@pytest.fixture
def adapter(base: Path, compute: Compute, tmp_path: Path) -> Path:
    """An adapter as peft saves it, beside a tokenizer with one token more than its base has."""
    model, tokenizer = load_policy(base, compute)
    tokenizer.add_tokens("<|mine|>")
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with quiet():
        wrapped: Any = peft.get_peft_model(model, peft.LoraConfig(r=R, lora_alpha=ALPHA, target_modules=["down_proj"]))
    generator = torch.Generator().manual_seed(1)
    for weight in (
        *wrapped.get_input_embeddings().parameters(),
        *(each for each in wrapped.parameters() if each.requires_grad),
    ):
        weight.data = torch.randn(weight.shape, generator=generator)
    wrapped.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    tokenizer.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def about(adapter: Path, **values: Any) -> None:
    """Change what adapter_config.json says."""
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_adapter_is_merged_into_its_base(base, adapter, compute, tmp_path):
    build_base(str(adapter), [], tmp_path / "out", compute, seed=0)
    parts = load_file(adapter / "adapter_model.safetensors")
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "out"))
    change = ALPHA / R * parts[f"{PREFIX}.lora_B.weight"] @ parts[f"{PREFIX}.lora_A.weight"]
    assert torch.allclose(after[f"{LAYER}.weight"], before[f"{LAYER}.weight"] + change, atol=1e-5)
    same = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(after[same], before[same])
    assert torch.equal(after["model.embed_tokens.weight"], parts["base_model.model.model.embed_tokens.weight"])
    assert not list((tmp_path / "out").glob("adapter*"))
    policy, tokenizer = load_policy(tmp_path / "out", compute)
    assert (
        tokenizer.convert_tokens_to_ids("<|mine|>") == len(tokenizer) - 1 == len(policy.get_input_embeddings().weight) - 1
    )


def test_an_adapter_without_a_tokenizer_has_that_of_its_base(base, compute, tmp_path):
    model, tokenizer = load_policy(base, compute)
    with quiet():
        peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    build_base(str(tmp_path / "adapter"), [], tmp_path / "out", compute, seed=0)
    assert load_policy(tmp_path / "out", compute)[1].get_vocab() == tokenizer.get_vocab()


def test_an_adapter_says_which_revision_of_its_base_it_was_trained_on(adapter, compute, tmp_path, monkeypatch):
    about(adapter, base_model_name_or_path="acme/tiny", revision="v2")
    asked = []

    def whole(source: str, options: Any) -> None:
        asked.append((source, options["revision"]))
        raise OSError("not today")

    monkeypatch.setattr("harness.engine.base._whole", whole)
    with pytest.raises(UsageError, match="it is an adapter for acme/tiny, which fails: not today"):
        build_base(str(adapter), [], tmp_path / "out", compute, seed=0)
    assert asked == [("acme/tiny", "v2")]


def become_a_prompt(adapter: Path) -> None:
    peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2).save_pretrained(adapter)


def lose_a_weight(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    del weights[f"{PREFIX}.lora_B.weight"]
    save_file(weights, path)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lose_a_weight, r"Found missing adapter keys .*layers\.0\.mlp\.down_proj\.lora_B"),
        (
            lambda adapter: about(adapter, task_type="SEQ_CLS"),
            "an adapter of type LORA for SEQ_CLS does not become a language",
        ),
        (become_a_prompt, "an adapter of type PROMPT_TUNING for CAUSAL_LM does not become a language model"),
        (lambda adapter: about(adapter, base_model_name_or_path="/none"), "it is an adapter for /none, which fails: "),
    ],
    ids=["weights", "kind", "prompt", "base"],
)
def test_an_adapter_that_cannot_be_merged_is_a_usage_error(adapter, compute, tmp_path, damage, text):
    damage(adapter)
    with pytest.raises(UsageError, match=text) as caught:
        build_base(str(adapter), [], tmp_path / "out", compute, seed=0)
    assert str(adapter) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_key_of_an_adapter_depends_on_its_base(base, adapter, tmp_path):
    shutil.copytree(base, tmp_path / "own")
    about(adapter, base_model_name_or_path=str(tmp_path / "own"))
    plan = f"name: a\nbase: {adapter}\ndata: {{toy: {{source: toy, pairs: 100}}}}\nstages: {{sft: {{aligner: sft, init: base, data: toy}}}}\n"
    graph = check(parse_document(plan, str(tmp_path / "plan.yaml")), load_plugins().registry())
    before = base_identity(graph, list)
    assert before == base_identity(graph, list)
    change_config = tmp_path / "own/config.json"
    change_config.write_text(change_config.read_text() + "\n")
    assert before != base_identity(graph, list)
