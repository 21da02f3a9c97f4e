"""What a plan's problems say, in words of plans and not of the libraries that find them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.components import ENGINE_ARGUMENTS, LoraOptions
from harness.errors import PlanError
from harness.plan import Graph, check, parse_document
from harness.plan.stages import OTHER_NAMES, OWN
from harness.plugins import load_plugins

PLAN = """\
name: x
base: {type: tiny}
data: {toy: {source: toy}}
stages: {sft: {aligner: sft, init: base, data: toy}}
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("dpo: {aligner", "dpo: {lora: true, aligner", "stages.dpo.lora: expected a mapping, not True; write `lora: {}` for the defaults"),
        ("dpo: {aligner", "dpo: {lora: 8, aligner", "stages.dpo.lora: expected a mapping, not 8"),
        ("dpo: {aligner", "dpo: {args: [1], aligner", "stages.dpo.args: expected a mapping"),
        ("{held: {data: toy.test}", "{held: true", "evaluate.suites.held: expected a mapping, not True"),
        ("candidates: [dpo, ppo]", "candidates: []", "evaluate.candidates: is empty; name at least one"),
        ("truth: {judge: toy-truth}", "truth: 3", "evaluate.judges.truth: expected a mapping, not 3"),
        ("name: small", "name: 123", "name: input should be a valid string, not 123; put it in quotes"),
        ('"<= 5"', "true", 'require.1.value: expected a bound such as ">= 0.65", not True'),
        ("name: small", "name: true", "name: input should be a valid string, not True; put it in quotes"),
        ("dpo: {aligner", "base: {aligner: sft, init: base, data: toy.train}\n  dpo: {aligner",
         "stages.base: `base` is the starting model; choose another name"),
    ],
)  # fmt: skip
def test_a_problem_in_plain_words(resolve: Callable[..., Graph], old: str, new: str, told: str) -> None:
    with pytest.raises(PlanError) as caught:
        resolve((old, new))
    assert [f"{each.path}: {each.text}" for each in caught.value.problems] == [told]


EVERYWHERE = ("sft", "reward", "dpo", "ppo")


@pytest.mark.parametrize(
    ("name", "stages", "told"),
    [
        ("lr", EVERYWHERE, "here it is `learning_rate`"),
        ("epochs", EVERYWHERE, "here it is `num_train_epochs`"),
        ("num_epochs", EVERYWHERE, "here it is `num_train_epochs`"),
        ("batch_size", ("sft", "reward", "dpo"), "here it is `per_device_train_batch_size`"),
        ("batch_size", ("ppo",), "here it is `rollout_batch_size`, the answers of an iteration"),
        ("warmup_ratio", EVERYWHERE, "here it is `warmup_steps`: below 1 it is a share of all steps"),
        ("max_prompt_length", EVERYWHERE, "`max_length` is that of prompt and answer; where they are longer, the prompt is cut"),
        ("max_completion_length", ("dpo",), "`max_length` is that of prompt and answer; where they are longer, the prompt is cut"),
        ("max_completion_length", ("ppo",), "here it is `response_length`"),
        ("max_new_tokens", ("ppo",), "here it is `response_length`"),
        ("max_new_tokens", ("dpo",), "`evaluate.generate.max_new_tokens` is that of the answers which are compared"),
        ("gradient_checkpointing", EVERYWHERE, "write `args: {activation_checkpointing: …}`"),
        ("optim", EVERYWHERE, "write `args: {optim: …}`"),
        ("adam_beta1", EVERYWHERE, "write `args: {adam_beta1: …}`"),
        ("torch_compile", ("sft", "reward", "dpo"), "write `args: {torch_compile: …}`"),
        ("torch_compile", ("ppo",), "ppo does not read torch_compile; leave it out"),
        ("bf16", EVERYWHERE, "give `precision: bf16` at the top of the plan"),
        ("fp16", EVERYWHERE, "`precision` at the top of the plan is fp32 or bf16; there is no fp16"),
        ("use_peft", EVERYWHERE, "write `lora: {r: …, alpha: …, target_modules: …}`"),
        ("lora_r", EVERYWHERE, "write `lora: {r: …}`"),
        ("eval_steps", EVERYWHERE, "nothing is evaluated while a stage trains; the plan's `evaluate` says what is measured afterwards"),
        ("eval_dataset", ("reward",), "here it is `valid`"),
        ("report_to", EVERYWHERE, "values go to the run folder and its report; a plugin's `harness_stage_log` can send them elsewhere"),
        ("seed", EVERYWHERE, "give `seed` at the top of the plan"),
        ("output_dir", EVERYWHERE, "`harness run` has --out for the run folder and --store for the models"),
        ("packing", ("sft", "reward", "dpo"), "every row is a sequence of its own; leave it out"),
        ("precompute_ref_log_probs", ("dpo",), "that is always done, but with `engine: trl`; leave it out"),
        ("ref_model", ("dpo", "ppo"), "the reference is `init`"),
        ("init_kl_coef", ("ppo",), "here it is `kl_coef`"),
        ("kl_beta", ("ppo",), "here it is `kl_coef`"),
        ("epsilon", ("ppo",), "here it is `cliprange`"),
    ],
)  # fmt: skip
def test_a_name_of_another_library_is_told_with_what_it_is_here(
    resolve: Callable[..., Graph], name: str, stages: Sequence[str], told: str
) -> None:
    with pytest.raises(PlanError) as caught:
        resolve(*((f"  {stage}: {{aligner", f"  {stage}: {{{name}: 1, aligner") for stage in stages))
    problems = {each.path: each.text for each in caught.value.problems}
    assert problems == {f"stages.{stage}.{name}": f"unknown option; {told}" for stage in stages}


def test_what_a_name_is_here_is_there() -> None:
    """Every text that names an option or a slot names one that the stage has, and no name is an option itself."""
    registry = load_plugins().registry()
    aligners = [registry.component("aligner", name) for name in registry.names("aligner")]
    for names, needs, text in OTHER_NAMES:
        having = [
            each for each in aligners if needs in {"", f"aligner: {each.name}", *each.takes, *each.Config.model_fields}
        ]
        assert having, needs
        for aligner in having:
            options = {*aligner.takes, *aligner.Config.model_fields}
            assert set(re.findall("here it is `([a-z_]+)`", text)) <= options
            assert set(re.findall("args: {([a-z_]+)", text)) <= {*ENGINE_ARGUMENTS}
            assert set(re.findall("[{ ]([a-z_]+): …", text.partition("lora: ")[2])) <= {*LoraOptions.model_fields}
        assert any(name not in {*each.takes, *each.Config.model_fields} for name in names.split() for each in having)
    assert not {*OWN}.intersection(*(each.Config.model_fields for each in aligners))


@pytest.mark.parametrize("engine", ["", "engine: trl, "])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("report_to: wandb", "report_to: the run sets it; values go to the run folder and its report; a plugin's"),
        ("fp16: true", "fp16: the run sets it; `precision` at the top of the plan is fp32 or bf16; there is no fp16"),
        ("beta: 0.1", "beta: give it as the stage's own option `beta`"),
        (
            "warmup_ratio: 0.1",
            "warmup_ratio: transformers' TrainingArguments have no such field; here it is `warmup_steps`",
        ),
    ],
)
def test_an_argument_is_told_once(resolve: Callable[..., Graph], engine: str, given: str, told: str) -> None:
    with pytest.raises(PlanError) as caught:
        resolve(("dpo: {aligner", f"dpo: {{{engine}args: {{{given}}}, aligner"))
    (problem,) = caught.value.problems
    assert f"{problem.path}: {problem.text}".startswith(f"stages.dpo.args.{told}")


def test_an_argument_of_another_name_is_told_with_its_own(resolve: Callable[..., Graph]) -> None:
    given = "dpo: {args: {gradient_checkpointing: true}, aligner"
    with pytest.raises(
        PlanError, match="gradient_checkpointing is not read here; write activation_checkpointing; engine: trl"
    ):
        resolve(("dpo: {aligner", given))
    assert resolve(("dpo: {aligner", given.replace("args", "engine: trl, args")))


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("name: small", "name: small\nseed: true", "seed"),
        ("name: small", "name: small\nseeds: [1, true]", "seeds"),
        ("train: 0.4", "train: true", "data.toy.split"),
        ("{type: tiny}", "{type: tiny, hidden_size: true}", "base.hidden_size"),
        ("dpo: {aligner", "dpo: {max_steps: true, aligner", "stages.dpo.max_steps"),
        ("dpo: {aligner", "dpo: {beta: true, aligner", "stages.dpo.beta"),
        ("dpo: {aligner", "dpo: {lora: {r: true}, aligner", "stages.dpo.lora.r"),
        ("dpo: {aligner", "dpo: {args: {adam_beta1: true}, aligner", "stages.dpo.args: adam_beta1"),
        ("name: small", "name: small\nsweep: {dpo.beta: [0.1, true]}", "sweep.dpo.beta"),
        ("model: referee}", "model: referee, temperature: true}", "evaluate.judges.referee.temperature"),
        ("baseline: sft", "baseline: sft\n  bootstrap: {level: true}", "evaluate.bootstrap.level"),
    ],
)
def test_true_is_no_number(resolve: Callable[..., Graph], old: str, new: str, where: str) -> None:
    with pytest.raises(PlanError) as caught:
        resolve((old, new))
    assert [f"{each.path}: {each.text}" for each in caught.value.problems] == [f"{where}: expected a number, not True"]


def test_true_is_what_it_is_where_it_is_meant(resolve: Callable[..., Graph]) -> None:
    plan = resolve(("name: small", "name: small\ntrust_remote_code: true"), ("reward: {a", "reward: {margin: true, a")).plan
    assert (plan.trust_remote_code, plan.stages["reward"]["margin"]) == (True, True)


@pytest.mark.parametrize(
    "wrong",
    [
        [("candidates: [dpo, ppo]", "candidates: dpo")],
        [("candidates: [dpo, ppo]", "candidates: []")],
        [("  candidates: [dpo, ppo]\n", "")],
        [("  baseline: sft\n", "")],
        [("suites: {held: {data: toy.test}, safety: {suite: safety}}", "suites: {}")],
    ],
    ids=["no list", "empty", "missing", "no baseline", "no suite"],
)
def test_an_evaluation_that_is_not_whole_hides_no_wrong_name(
    resolve: Callable[..., Graph], wrong: Sequence[tuple[str, str]]
) -> None:
    with pytest.raises(PlanError) as caught:
        resolve(*wrong, ("kl, accuracy]", "kll, accuracy]"), ("judge: toy-truth", "judge: toy-trth"))
    problems = {each.path: each.text for each in caught.value.problems}
    assert problems["evaluate.metrics.2"] == "unknown metric 'kll'; did you mean \"kl\"?"
    assert problems["evaluate.judges.truth.judge"] == "unknown judge 'toy-trth'; did you mean \"toy-truth\"?"
    assert len(problems) == 3


def test_what_hangs_on_the_candidates_is_not_told_where_they_are_no_list(
    resolve: Callable[..., Graph], tmp_path: Path
) -> None:
    row = {"prompt_id": "1", "suite": "held", "judge": "ann", "candidate": "dpo", "baseline": "sft", "preference": 1.0}
    (tmp_path / "labels.jsonl").write_text(json.dumps(row) + "\n")
    new = f"candidates: dpo\n  human: {tmp_path}/labels.jsonl\n  best_of_n: {{best: {{model: sft, reward: reward, n: 4}}}}"
    with pytest.raises(PlanError) as caught:
        resolve(("candidates: [dpo, ppo]", new))
    assert [each.path for each in caught.value.problems] == ["evaluate.candidates"]


def test_a_gate_that_cannot_be_read_hides_no_other(resolve: Callable[..., Graph]) -> None:
    with pytest.raises(PlanError) as caught:
        resolve(('"<= 9"', '"about 9"'), ("{model: dpo, metric: kl, suite: held", "{model: dpo, metric: kll, suite: held"))
    assert [f"{each.path}: {each.text}" for each in caught.value.problems] == [
        "require.0.value: 'about 9' is not a bound; write one such as \">= 0.65\"",
        "require.1.metric: no estimate of this plan has the metric 'kll'; did you mean \"kl\"?",
    ]


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "\ta: 1\n"])
def test_a_tab_is_called_one(text: str) -> None:
    with pytest.raises(PlanError, match="indent with spaces, not tabs"):
        parse_document(text, "plan.yaml")


def test_a_plugin_that_was_left_out_is_named_where_something_is_unknown() -> None:
    registry = load_plugins(["aligners"]).registry()
    with pytest.raises(PlanError) as caught:
        check(parse_document(PLAN, "plan.yaml"), registry)
    assert str(caught.value) == (
        "plan.yaml:4: stages.sft.aligner: unknown aligner 'sft'; plugin 'aligners', which may bring it, was left out"
    )
