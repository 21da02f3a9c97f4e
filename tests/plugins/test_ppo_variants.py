"""PPO with a shared critic, with a judge for its reward, with adapters, with another optimizer; and each of them resumed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import harness

torch = pytest.importorskip("torch")
from ppo_loop import Context, make_inputs, run, training, weights  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM  # noqa: E402

from harness.engine.checkpoints import load_checkpoint  # noqa: E402
from harness.engine.critic import (  # noqa: E402
    VALUE_HEAD,
    critic_from,
    head_values,
    load_value_head,
    save_value_head,
    value_head,
)
from harness.engine.likelihood import TokenSequence, answer_states, collate, token_logprobs  # noqa: E402
from harness.engine.models import load_policy, load_reward_model, save_model, score_head  # noqa: E402
from harness.engine.rollouts import RewardScaling  # noqa: E402

pytestmark = pytest.mark.torch

WHOLE = {"num_ppo_epochs": 1, "num_mini_batches": 1}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_inputs(tmp_path_factory.mktemp("ppo"))


class Longest(harness.ScoringJudge):
    """Scores an answer by its characters; has no score for what it does not like."""

    name = "longest"

    def __init__(self, scores: Any = None) -> None:
        self.scores, self.seen = scores, []

    def score(self, prompts, answers, config, inputs, context):
        self.seen += list(zip(prompts, answers, strict=True))
        return self.scores(answers) if self.scores else [float(len(answer)) for answer in answers]


def judged(inputs: dict[str, Any], judge: Longest) -> dict[str, Any]:
    return inputs | {"reward": harness.Scorer("longest", judge, harness.Options(), {}, {"judge": "longest"})}


# --- the critic -----------------------------------------------------------------------------------------------------------


def test_a_shared_critic_trains_policy_and_head_in_one_pass_each(inputs, tmp_path):
    loop = training(inputs, tmp_path, critic="shared", vf_coef=1.0)
    rollout, _ = loop.sample(1)
    assert not rollout.values.any()  # a fresh head is silent
    targets, _ = loop.estimate(rollout)
    loop.update(1, rollout, targets)
    again, _ = loop.sample(1)
    assert loop.critic.weight.abs().max() > 0
    assert again.values[again.mask].std() > 0


def test_the_value_loss_reaches_the_shared_backbone(inputs, tmp_path):
    loop = training(inputs, tmp_path, critic="shared", vf_coef=1.0)
    with torch.no_grad():
        loop.critic.weight.fill_(0.1)
    rollout, _ = loop.sample(1)
    targets, _ = loop.estimate(rollout)
    still = replace(targets, advantages=torch.zeros_like(targets.advantages))
    loop._minibatch(1, rollout, still, torch.arange(8))
    assert loop.policy.base_model.layers[0].mlp.up_proj.weight.grad.abs().max() > 1e-4


def test_a_value_head_is_saved_with_its_policy_and_gives_the_same_values(inputs, tmp_path):
    first = training(inputs, tmp_path / "first", critic="shared")
    first.run()
    output = first.context.output
    policy, _ = load_policy(output, first.compute)
    saved = load_file(output / VALUE_HEAD)
    assert saved["weight"].abs().max() > 0
    # A stage that goes on from this one sees the values that this one would, in the unit of the reward model's scores.
    after = inputs | {"init": replace(inputs["init"], path=output)}
    loop = training(after, tmp_path / "second", critic="shared", **WHOLE)
    rollout, _ = loop.sample(1)
    sequence = rollout.sequences[0]
    whole = torch.tensor([[*sequence.prompt_ids, *sequence.answer_ids]])
    with torch.no_grad():
        states = policy.base_model(whole).last_hidden_state[0]
        start = len(sequence.prompt_ids) - 1
        rewards = head_values(first.critic, states[start : start + len(sequence.answer_ids)])
    scores = rewards * first.scaling.deviation + first.scaling.mean
    assert torch.allclose(rollout.values[0, : len(scores)], scores, atol=1e-5)
    # There they are scaled anew, as that stage scales scores.
    targets, _ = loop.estimate(rollout)
    assert loop.scaling.mean != pytest.approx(first.scaling.mean, abs=1e-3)
    values = (rollout.values - loop.scaling.mean) / loop.scaling.deviation
    expected = 0.5 * (values - targets.returns)[rollout.mask].square().mean()
    assert loop.update(1, rollout, targets)["value_loss"] == pytest.approx(float(expected), rel=1e-4)
    loop._save()
    assert torch.equal(load_file(loop.context.output / VALUE_HEAD)["weight"], loop.critic.weight)


def test_a_value_head_of_another_reward_is_not_taken_up(inputs, tmp_path):
    output = run(inputs, tmp_path / "first", critic="shared", max_steps=1).output
    other = judged(inputs | {"init": replace(inputs["init"], path=output)}, Longest())
    loop = training(other, tmp_path / "second", critic="shared")
    assert not loop.critic.weight.any()
    assert not loop.critic_knows_scores
    assert loop.context.notes == ["init has a value head for another reward: a fresh one takes its place"]


def test_a_value_head_that_does_not_fit_is_a_usage_error(inputs, tmp_path):
    policy, _ = load_policy(inputs["init"].path, Context(tmp_path).compute)
    save_value_head(torch.nn.Linear(7, 1), tmp_path, "2")
    with pytest.raises(harness.UsageError, match=r"value_head\.safetensors does not fit its model"):
        load_value_head(tmp_path, policy, "cpu", "2")
    (tmp_path / VALUE_HEAD).write_bytes(b"cut off")
    with pytest.raises(harness.UsageError, match=r"value_head\.safetensors does not fit its model"):
        load_value_head(tmp_path, policy, "cpu", "2")


def test_a_value_head_is_as_wide_as_what_the_output_layer_reads():
    sizes = {"hidden_size": 32, "word_embed_proj_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 8}
    policy = OPTForCausalLM(OPTConfig(**sizes, vocab_size=50, max_position_embeddings=16)).eval()
    batch = collate([TokenSequence([4, 5], [6, 7, 8])], 1, "cpu")
    logits, hidden = answer_states(policy, batch)
    assert head_values(value_head(policy, "cpu"), hidden).shape == (3,)
    assert torch.allclose(logits, hidden @ policy.lm_head.weight.T, atol=1e-5)


def test_a_separate_critic_starts_as_the_reward_model_and_leaves_it_alone(inputs, tmp_path):
    loop = training(inputs, tmp_path)
    before = [parameter.clone() for parameter in loop.reward.model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, loop.critic.parameters(), strict=True))
    rollout, _ = loop.sample(1)
    loop.update(1, rollout, loop.estimate(rollout)[0])
    assert all(torch.equal(a, b) for a, b in zip(before, loop.reward.model.parameters(), strict=True))
    assert not torch.equal(before[0], next(loop.critic.parameters()))


# --- a judge for the reward -----------------------------------------------------------------------------------------------


def test_a_judge_sees_the_prompt_and_the_answers_text_and_its_score_is_learned(inputs, tmp_path):
    judge = Longest()
    loop = training(judged(inputs, judge), tmp_path)
    rollout, described = loop.sample(1)
    texts = [
        loop.tokenizer.decode([each for each in sequence.answer_ids if each not in loop.stop], skip_special_tokens=True)
        for sequence in rollout.sequences
    ]
    assert [answer for _, answer in judge.seen] == texts
    assert {prompt[0].content for prompt, _ in judge.seen} <= {row.prompt[0].content for row in inputs["data"].rows}
    for (prompt, _), sequence in zip(judge.seen, rollout.sequences, strict=True):
        assert prompt[0].content in loop.tokenizer.decode(sequence.prompt_ids)
    assert rollout.scores.tolist() == [float(len(text)) for text in texts]
    assert described["unscored"] == 0


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_the_judges_score_rises(inputs, tmp_path, critic):
    options = {"max_steps": 16, "rollout_batch_size": 64, "per_device_train_batch_size": 64, "response_length": 3}
    options |= {"num_ppo_epochs": 4, "learning_rate": 1e-2, "missing_eos_penalty": 0.0, "kl_coef": 0.0}
    logged = run(judged(inputs, Longest()), tmp_path, critic=critic, **options).logged
    scaling = json.loads((tmp_path / "output/reward_scaling.json").read_text())
    assert logged[16]["score"] - logged[1]["score"] > scaling["deviation"]


def test_answers_without_a_score_get_the_mean_of_the_others(inputs, tmp_path):
    half = Longest(
        lambda answers: [None if row % 2 else row for row in range(len(answers))]
    )  # whole numbers, as judges may
    rollout, described = training(judged(inputs, half), tmp_path).sample(1)
    assert rollout.scores.tolist() == [0.0, 3.0, 2.0, 3.0, 4.0, 3.0, 6.0, 3.0]  # (0 + 2 + 4 + 6) / 4 = 3
    assert described["unscored"] == 0.5


def test_a_judges_whole_numbers_are_scores_like_any_other(inputs, tmp_path):
    loop = training(judged(inputs, Longest(lambda answers: list(range(len(answers))))), tmp_path)
    loop.estimate(loop.sample(1)[0])
    assert loop.scaling == RewardScaling(mean=3.5, deviation=pytest.approx(5.25**0.5), answers=8)  # of 0, 1, … 7


def test_answers_without_a_score_do_not_change_the_scale_of_the_others(inputs, tmp_path):
    half = Longest(lambda answers: [None if row % 2 else float(row) for row in range(len(answers))])
    loop = training(judged(inputs, half), tmp_path)
    loop.estimate(loop.sample(1)[0])
    # 0, 2, 4 and 6: mean 3, deviation √((9 + 1 + 1 + 9) / 4)
    assert loop.scaling == RewardScaling(mean=3.0, deviation=pytest.approx(5**0.5), answers=4)


def test_a_reward_model_that_gives_no_number_is_named(inputs, tmp_path):
    loop = training(inputs, tmp_path)
    with torch.no_grad():
        score_head(loop.reward.model).weight.fill_(float("nan"))
    with pytest.raises(harness.StageError, match="its reward model gives an answer the score nan"):
        loop.sample(1)


@pytest.mark.parametrize("change", ["eos", "rows"])
def test_a_reward_model_with_another_vocabulary_is_refused(inputs, tmp_path, change):
    model, tokenizer = load_reward_model(inputs["reward"].path, Context(tmp_path).compute)
    if change == "eos":
        tokenizer.eos_token = "<|user|>"
    else:
        model.resize_token_embeddings(len(tokenizer) + 8, mean_resizing=False)
    save_model(model, tokenizer, tmp_path / "other")
    with pytest.raises(harness.StageError, match="init and reward have different vocabularies"):
        training(inputs | {"reward": replace(inputs["reward"], path=tmp_path / "other")}, tmp_path)


def test_max_length_ends_where_the_models_positions_do(inputs, tmp_path):
    """GPT-2 has learned positions: beyond the last one there is only an error."""
    _, tokenizer = load_policy(inputs["init"].path, Context(tmp_path).compute)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
    special = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    save_model(GPT2LMHeadModel(GPT2Config(**sizes, **special)), tokenizer, tmp_path / "short")
    long = harness.Message(role="user", content="lazy dog " * 20)
    rows = tuple(row.model_copy(update={"prompt": (long,)}) for row in inputs["data"].rows)
    short = {"init": replace(inputs["init"], path=tmp_path / "short"), "data": replace(inputs["data"], rows=rows)}
    loop = training(judged(inputs | short, Longest()), tmp_path)
    assert loop.context.notes[0] == "max_length 64 is more than the model's context: it is 32 here"
    rollout, _ = loop.sample(1)
    assert {len(each.prompt_ids) for each in rollout.sequences} <= set(range(8, 25))
    loop.update(1, rollout, loop.estimate(rollout)[0])


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        (lambda answers: [None] * len(answers), "longest scored none of 8 answers"),
        (lambda _: [1.0], "'longest' gave 1 scores for 8 answers"),
        (lambda answers: [float("nan")] * len(answers), "'longest' gave an answer the score nan"),
    ],
)
def test_a_judge_that_gives_no_reward_is_a_stage_error(inputs, tmp_path, scores, text):
    with pytest.raises(harness.StageError, match=text):
        training(judged(inputs, Longest(scores)), tmp_path).sample(1)


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_a_critic_that_knows_no_scores_speaks_of_rewards(inputs, tmp_path, critic):
    given = judged(inputs, Longest()) if critic == "separate" else inputs
    loop = training(given, tmp_path, critic=critic, num_ppo_epochs=1, num_mini_batches=1)
    rollout, _ = loop.sample(1)
    targets, _ = loop.estimate(rollout)
    assert abs(loop.scaling.mean / loop.scaling.deviation) > 0.01  # scaled, its silence would be heard
    assert not rollout.values.any()
    expected = 0.5 * targets.returns[rollout.mask].square().mean()
    assert loop.update(1, rollout, targets)["value_loss"] == pytest.approx(float(expected), rel=1e-4)


def test_a_critic_without_reward_model_starts_from_the_policy_and_says_nothing(inputs, tmp_path):
    loop = training(judged(inputs, Longest()), tmp_path)
    rollout, _ = loop.sample(1)
    assert not rollout.values.any()
    assert torch.equal(loop.critic.model.layers[0].mlp.up_proj.weight, loop.policy.model.layers[0].mlp.up_proj.weight)
    assert not score_head(critic_from(inputs["init"].path, loop.compute)).weight.any()


# --- adapters and optimizers ----------------------------------------------------------------------------------------------

LORA = {"lora": {"r": 4, "alpha": 8}, "learning_rate": 1e-2}


def test_adapters_need_no_second_copy_and_the_reference_is_the_policy_without_them(inputs, tmp_path):
    loop = training(inputs, tmp_path, **LORA)
    plain = training(inputs, tmp_path)
    assert loop.reference is None
    rollout, _ = loop.sample(1)
    assert torch.allclose(rollout.logprobs, plain.sample(1)[0].logprobs, atol=1e-5)
    loop.update(1, rollout, loop.estimate(rollout)[0])
    later, _ = loop.sample(2)
    reference = plain._rows(token_logprobs(plain.reference, later.sequences, plain.compute, pad_id=plain.pad_id))
    assert torch.allclose(later.ref_logprobs, reference, atol=1e-5)
    assert not torch.allclose(later.logprobs, reference, atol=1e-3)


def test_with_adapters_the_rest_stays_and_the_critics_head_is_trained(inputs, tmp_path):
    loop = training(inputs, tmp_path, **LORA)
    start = training(inputs, tmp_path)
    frozen = {name: each.clone() for name, each in loop.policy.named_parameters() if not each.requires_grad}
    rollout, _ = loop.sample(1)
    assert torch.allclose(rollout.values, start.sample(1)[0].values, atol=1e-5)  # the reward model's head, kept
    loop.update(1, rollout, loop.estimate(rollout)[0])
    now = dict(loop.policy.named_parameters())
    assert frozen
    assert all(torch.equal(each, now[name]) for name, each in frozen.items())
    assert not torch.equal(loop.critic.score.weight, start.critic.score.weight)


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_a_policy_with_adapters_is_saved_merged_and_opens_like_any_other(inputs, tmp_path, critic):
    options = {**LORA, "critic": critic, "max_steps": 3}
    loop = training(inputs, tmp_path, **options)
    loop.run()
    rollout, _ = loop.sample(1)
    saved, _ = load_policy(loop.context.output, loop.compute)
    found = token_logprobs(saved, rollout.sequences, loop.compute, pad_id=loop.pad_id)
    assert torch.allclose(loop._rows(found), rollout.logprobs, atol=1e-5)
    assert not list(loop.context.output.glob("adapter*"))
    assert not torch.equal(
        saved.model.layers[0].mlp.up_proj.weight, training(inputs, tmp_path).policy.model.layers[0].mlp.up_proj.weight
    )


@pytest.mark.parametrize(
    "options",
    [
        {"args": {"optim": "adafactor"}},
        {"args": {"optim": "sgd"}, "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 1},
        {"lr_scheduler_type": "reduce_lr_on_plateau"},
        {"lr_scheduler_type": "cosine_with_min_lr", "args": {"lr_scheduler_kwargs": {"min_lr_rate": 0.5}}},
    ],
)
def test_other_optimizers_and_schedules(inputs, tmp_path, options):
    context = run(inputs, tmp_path, **options)
    assert sorted(context.logged) == [1, 2, 3, 4]
    assert any(not torch.equal(a, b) for a, b in zip(weights(context).values(), _base(inputs).values(), strict=True))


@pytest.mark.parametrize("options", [{}, {"critic": "shared"}, {"lora": {"r": 2}}])
def test_activation_checkpointing_computes_layers_again_and_changes_nothing(inputs, tmp_path, options):
    calls = {}

    def count(folder: str, again: bool) -> dict[str, Any]:
        loop = training(inputs, tmp_path / folder, **options, args={"activation_checkpointing": again}, max_steps=2)
        calls[again] = Counter()

        def called(module: Any, _: Any) -> None:
            calls[again][modules.index(module)] += module.training and torch.is_grad_enabled()

        modules = [model.model.layers[0].mlp for model in loop.learned]
        for module in modules:
            module.register_forward_pre_hook(called)
        loop.run()
        return load_file(tmp_path / folder / "output" / "model.safetensors")

    plain, saved = count("plain", again=False), count("saved", again=True)
    assert calls[True] == {place: 2 * count for place, count in calls[False].items()}
    assert len(calls[True]) == (1 if options.get("critic") == "shared" else 2)
    assert max(float((plain[name] - saved[name]).abs().max()) for name in plain) < 1e-6
    assert any(not torch.equal(plain[name], before) for name, before in _base(inputs).items())


def _base(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return load_file(inputs["init"].path / "model.safetensors")


# --- resuming -------------------------------------------------------------------------------------------------------------


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """The parts of nested state by their path, so that two states can be compared bit by bit."""
    if isinstance(value, Mapping):
        return {key: each for name, part in value.items() for key, each in leaves(part, f"{path}/{name}").items()}
    if isinstance(value, list | tuple):
        return {key: each for name, part in enumerate(value) for key, each in leaves(part, f"{path}/{name}").items()}
    return {path: value}


@pytest.mark.parametrize(
    "options",
    [{}, {"critic": "shared"}, LORA, {**LORA, "critic": "shared"}, {"args": {"optim": "adafactor"}}],
    ids=["plain", "shared", "lora", "lora-shared", "adafactor"],
)
def test_a_resumed_loop_has_the_same_state_to_the_bit(inputs, tmp_path, options):
    options = {
        **options,
        "save_steps": 1,
        "target_kl": 0.01,
        "horizon": 20,
        "warmup_steps": 2,
        "lr_scheduler_type": "cosine",
    }
    whole = training(inputs, tmp_path / "whole", **options)
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path / "cut", fail_at=3, **options)
    resumed = training(inputs, tmp_path / "cut", **options)
    resumed.run()
    assert resumed.context.rewound == [2]
    expected, found = leaves(whole._state()), leaves(resumed._state())
    # policy, critic, both optimizers and their schedules, beta, the scale of the rewards, tokens; all is logged
    assert {path.split("/")[1] for path in expected} == {
        "policy", "critic", "optimizers", "schedulers", "beta", "scaling", "tokens"
    }  # fmt: skip
    assert expected.keys() == found.keys()
    for path, value in expected.items():
        assert torch.equal(value, found[path]) if isinstance(value, torch.Tensor) else value == found[path], path
    assert resumed.context.logged == {step: values for step, values in whole.context.logged.items() if step > 2}
    assert expected["/beta"] != 0.05
    # Prompts and what is drawn for them go on where they would have: the next rollout is the same.
    mine, other = whole.sample(5)[0], resumed.sample(5)[0]
    assert mine.sequences == other.sequences


def test_a_checkpoint_of_adapters_holds_no_frozen_weights(inputs, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path, fail_at=3, save_steps=1, **LORA)
    found = load_checkpoint(tmp_path / "checkpoints", "cpu")
    assert found is not None
    assert all("lora_" in name for name in found[1]["policy"])
    assert {name for name in found[1]["critic"] if "lora_" not in name} == {"score.weight"}
