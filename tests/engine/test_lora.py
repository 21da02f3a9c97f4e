"""Adapters: nothing at first, the reference when off, and gone once they are merged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
import small  # noqa: E402
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

MODELS = {"llama": small.llama, "gpt2": small.gpt2, "gpt-neox": small.gpt_neox, "reward": small.reward_llama}
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
