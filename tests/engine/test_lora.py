"""Adapters: nothing at first, the reference when off, and gone once they are merged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

torch = pytest.importorskip("torch")
import small  # noqa: E402
import transformers  # noqa: E402
from small import PAD, VOCABULARY, Recorder  # noqa: E402
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification  # noqa: E402

import harness  # noqa: E402
from harness.components import LoraOptions  # noqa: E402
from harness.engine.learning import AnswerLikelihood, PairReward  # noqa: E402
from harness.engine.lora import (  # noqa: E402
    adapters_off,
    add_lora,
    load_trainable_state,
    merge_lora,
    trainable_parameters,
    trainable_state,
)
from harness.engine.pairs import PairLayout, pair_scores, read_all  # noqa: E402
from harness.engine.training import train  # noqa: E402

pytestmark = pytest.mark.torch


def mixture(architecture: str, **options: Any) -> Callable[[], Any]:
    """A model of two blocks with four experts each, two of which see a token; its experts are tensors of three dimensions."""
    sizes = {**small.SIZES, "vocab_size": VOCABULARY, "pad_token_id": PAD, "num_key_value_heads": 2, "eos_token_id": 1}

    def make_model() -> Any:
        config = getattr(transformers, f"{architecture}Config")(**sizes, num_experts_per_tok=2, **options)
        return small._fresh(getattr(transformers, f"{architecture}ForCausalLM"), config)

    return make_model


MIXTURES = {
    "mixtral": mixture("Mixtral", num_local_experts=4),
    "qwen3-moe": mixture("Qwen3Moe", num_experts=4, moe_intermediate_size=16, head_dim=16, mlp_only_layers=[0]),
    "olmoe": mixture("Olmoe", num_experts=4),
    "qwen2-moe": mixture("Qwen2Moe", num_experts=4, moe_intermediate_size=16, shared_expert_intermediate_size=16),
    "gpt-oss": mixture(
        "GptOss",
        num_local_experts=4,
        head_dim=16,
        layer_types=["full_attention"] * 2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    ),
    "granitemoe": mixture("GraniteMoe", num_local_experts=4),
}
MODELS = {"llama": small.llama, "gpt2": small.gpt2, "gpt-neox": small.gpt_neox, "reward": small.reward_llama}
MODELS |= {name: MIXTURES[name] for name in ("mixtral", "qwen3-moe")}
IDS = torch.arange(1, 19).reshape(2, 9) * 5 % VOCABULARY

every_model = pytest.mark.parametrize("make_model", MODELS.values(), ids=MODELS)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def trained(model: Any, rank: int = 4) -> Any:
    """The model with adapters whose B is not zero any more, as after some training."""
    add_lora(model, LoraOptions(r=rank), seed=1)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / 8)
    return model


@every_model
def test_fresh_adapters_change_nothing(make_model: Callable[[], Any]) -> None:
    model = make_model()
    before = logits(model)
    add_lora(model, LoraOptions(r=4), seed=1)
    assert torch.equal(logits(model), before)


@every_model
def test_without_its_adapters_a_model_is_exactly_what_it_was(make_model: Callable[[], Any]) -> None:
    start = logits(make_model())
    model = trained(make_model())
    with_adapters = logits(model)
    assert not torch.allclose(with_adapters, start, atol=1e-2)
    with adapters_off(model):
        assert torch.equal(logits(model), start)
    assert torch.equal(logits(model), with_adapters)


def test_adapters_come_back_after_an_error() -> None:
    model = trained(small.llama())
    expected = logits(model)
    with pytest.raises(ZeroDivisionError), adapters_off(model):
        _ = 1 / 0
    assert torch.equal(logits(model), expected)


@every_model
def test_merging_changes_no_number_and_leaves_a_plain_model(make_model: Callable[[], Any], tmp_path: Path) -> None:
    plain = make_model()
    model = trained(make_model())
    expected = logits(model)
    merge_lora(model)
    assert torch.allclose(logits(model), expected, atol=1e-5)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.save_pretrained(tmp_path)
    kind = AutoModelForSequenceClassification if make_model is small.reward_llama else AutoModelForCausalLM
    again = kind.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(logits(again), logits(model))


@every_model
def test_only_adapters_and_a_score_head_learn(make_model: Callable[[], Any]) -> None:
    model = make_model()
    sizes = sum(parameter.numel() for parameter in model.parameters())
    add_lora(model, LoraOptions(r=1), seed=1)
    learned = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    others = [name for name in learned if "lora_" not in name]
    assert others == (["score.weight"] if make_model is small.reward_llama else [])
    assert not any("lm_head" in name or "embed_out" in name or "score.lora" in name for name in learned)
    assert 0 < sum(parameter.numel() for parameter in trainable_parameters(model)) < sizes / 10


@pytest.mark.parametrize("make_model", MIXTURES.values(), ids=MIXTURES)
def test_of_a_mixture_all_linear_layers_are_adapted_and_neither_experts_nor_router(make_model: Callable[[], Any]) -> None:
    model = make_model()
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and name != "lm_head"}
    add_lora(model, LoraOptions(r=1), seed=1)
    adapted = {name.partition(".lora_")[0] for name, each in model.named_parameters() if each.requires_grad}
    assert adapted == linear
    experts = [name for name, each in model.named_parameters() if each.ndim == 3]
    assert len(experts) >= 2
    assert not any(name.startswith(layer) for name in experts for layer in adapted)
    merge_lora(model)
    assert model.state_dict().keys() == make_model().state_dict().keys()


def test_a_name_that_layers_and_experts_share_means_the_layers() -> None:
    """The first block of this model is dense. peft would take its gate_proj for half of the experts' gate_up_proj, and stop."""
    model = MIXTURES["qwen3-moe"]()
    add_lora(model, LoraOptions(r=1, target_modules=["gate_proj"]), seed=1)
    adapted = {name.partition(".lora_")[0] for name, each in model.named_parameters() if each.requires_grad}
    assert adapted == {"model.layers.0.mlp.gate_proj"}


def test_experts_are_no_layers_to_name() -> None:
    with pytest.raises(
        harness.StageError, match="this model has no layer 'down_proj'; it has k_proj, o_proj, q_proj, v_proj"
    ):
        add_lora(MIXTURES["mixtral"](), LoraOptions(target_modules=["down_proj"]), seed=1)


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        ("q_proj", {"q_proj"}),
        (["q_proj", "up_proj"], {"q_proj", "up_proj"}),
        (["all-linear"], {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        (["q_proj", "all-linear"], {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
    ],
)
def test_targets_are_one_name_or_a_list_of_them(targets: str | list[str], layers: set[str]) -> None:
    model = small.llama()
    add_lora(model, LoraOptions(r=1, target_modules=targets), seed=1)
    learned = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert {name.split(".")[-4] for name in learned} == layers
    assert len(learned) == 2 * 2 * len(layers)  # A and B in each of two blocks


@pytest.mark.parametrize("targets", [[], ""])
def test_no_targets_are_an_error_of_the_plan(targets: str | list[str]) -> None:
    with pytest.raises(ValidationError, match="target_modules"):
        LoraOptions(target_modules=targets)


def test_what_peft_refuses_is_one_clear_error() -> None:
    config = transformers.MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=VOCABULARY, state_size=4)
    with pytest.raises(harness.StageError, match=r"^lora: .*'out_proj' is incompatible with Mamba"):
        add_lora(transformers.MambaForCausalLM(config), LoraOptions(r=1), seed=1)


def test_a_model_without_linear_layers_is_one_clear_error() -> None:
    config = transformers.LlamaConfig(**small.SIZES | {"num_hidden_layers": 0}, vocab_size=VOCABULARY)
    with pytest.raises(harness.StageError, match=r"^lora: this model has no linear layer to adapt$"):
        add_lora(transformers.LlamaForCausalLM(config), LoraOptions(r=1), seed=1)


def test_an_adapter_is_scaled_by_alpha_over_r() -> None:
    """W x + (alpha / r) B A x, by hand, in the one layer that is adapted."""
    model = small.llama()
    weight = model.model.layers[1].self_attn.q_proj.weight.detach().clone()
    add_lora(model, LoraOptions(r=2, alpha=6, target_modules=["q_proj"]), seed=1)
    layer = model.model.layers[1].self_attn.q_proj
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert down.shape == (2, 32)
    with torch.no_grad():
        up.fill_(0.25)
        x = torch.linspace(-1, 1, 32)
        assert torch.allclose(layer(x), weight @ x + 3 * (up @ (down @ x)), atol=1e-5)
    adapted = {name.rsplit(".", 3)[0] for name, each in model.named_parameters() if each.requires_grad}
    assert adapted == {f"model.layers.{number}.self_attn.q_proj" for number in (0, 1)}


def test_the_draw_follows_from_the_seed_and_disturbs_no_other() -> None:
    torch.manual_seed(4)
    before = torch.get_rng_state()
    models = [small.llama() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        add_lora(model, LoraOptions(r=4), seed)
    assert torch.equal(torch.get_rng_state(), before)
    one, same, other = map(trainable_state, models)
    assert small.same_bits(one, same)
    assert not small.same_bits(one, other)


def test_the_state_of_a_checkpoint_is_what_learns_and_goes_back_whole() -> None:
    source, target = trained(small.reward_llama()), small.reward_llama()
    with torch.no_grad():
        source.score.weight.mul_(2)
    add_lora(target, LoraOptions(r=4), seed=9)
    state = trainable_state(source)
    assert len(state) == 2 * 7 * 2 + 1  # A and B of seven layers in each of two blocks, and the head
    load_trainable_state(target, state)
    assert torch.equal(logits(target), logits(source))
    with pytest.raises(KeyError):
        load_trainable_state(target, {name: state[name] for name in list(state)[:-1]})


@pytest.mark.parametrize("targets", ["q", ["q_proj", "foo"], ["lm_head"]])
def test_a_layer_that_there_is_not_is_one_clear_error(targets: str | list[str]) -> None:
    wrong = targets if isinstance(targets, str) else targets[-1]
    with pytest.raises(harness.StageError) as caught:
        add_lora(small.llama(), LoraOptions(target_modules=targets), seed=1)
    assert str(caught.value) == (
        f"lora: target_modules: this model has no layer {wrong!r}; it has down_proj, gate_proj, k_proj, o_proj, q_proj, "
        "up_proj, v_proj"
    )


@every_model
def test_training_with_adapters_lowers_the_loss_and_leaves_a_plain_model(
    make_model: Callable[[], Any], tmp_path: Path
) -> None:
    model, context = make_model(), Recorder(tmp_path)
    plain = make_model().state_dict().keys()
    if make_model is small.reward_llama:
        objective: Any = PairReward(model, small.pairs(8), PairLayout(), PAD, small.COMPUTE)
    else:
        objective = AnswerLikelihood(model, small.conversations(8), PAD, small.COMPUTE)
    config = harness.TrainingConfig(lora=LoraOptions(r=4), max_steps=6, learning_rate=1e-2, logging_steps=1)
    train(model, objective, config, context)
    assert context.logged[6]["loss"] < 0.9 * context.logged[1]["loss"]
    assert model.state_dict().keys() == plain


def test_a_reward_head_trained_beside_adapters_survives_save_and_reload(tmp_path: Path) -> None:
    """A head that is not saved is drawn anew when the model is opened, and the scores are noise."""
    model, pairs, layout = small.reward_llama(), small.pairs(8), PairLayout()
    head = model.score.weight.detach().clone()
    config = harness.TrainingConfig(lora=LoraOptions(r=4), max_steps=4, learning_rate=1e-2)
    train(model, PairReward(model, pairs, layout, PAD, small.COMPUTE), config, Recorder(tmp_path))
    assert not torch.equal(model.score.weight, head)
    expected = read_all(pair_scores, model, pairs, layout, PAD, small.COMPUTE)
    model.save_pretrained(tmp_path / "saved")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    assert torch.equal(read_all(pair_scores, again, pairs, layout, PAD, small.COMPUTE), expected)
