from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import PlanError
from harness.plan import Graph

SEED = "name: small\n"


def test_a_sweep_replaces_its_stage_and_the_candidates_and_gates_that_name_it(resolve: Callable[..., Graph]) -> None:
    graph = resolve((SEED, f"{SEED}sweep: {{dpo.beta: [0.05, 1.0e-1]}}\n"))
    assert set(graph.stages) == {"sft", "reward", "referee", "ppo", "dpo-beta-0.05", "dpo-beta-0.1"}
    assert [graph.stages[f"dpo-beta-{beta}"].config.beta for beta in ("0.05", "0.1")] == [0.05, 0.1]
    assert graph.plan.evaluate is not None
    assert graph.plan.evaluate.candidates == ["dpo-beta-0.05", "dpo-beta-0.1", "ppo"]
    assert [gate.model for gate in graph.plan.require] == ["ppo", "dpo-beta-0.05", "dpo-beta-0.1"]


def test_a_large_number_of_steps_is_written_out(resolve: Callable[..., Graph]) -> None:
    graph = resolve((SEED, f"{SEED}sweep: {{dpo.max_steps: [1000000, 20]}}\n"))
    assert {"dpo-max_steps-1000000", "dpo-max_steps-20"} <= set(graph.stages)


def test_several_options_are_crossed(resolve: Callable[..., Graph]) -> None:
    graph = resolve((SEED, f"{SEED}sweep: {{dpo.beta: [1, 2], dpo.learning_rate: [1.0e-6, 2.0e-6]}}\n"))
    assert [name for name in graph.stages if name.startswith("dpo")] == [
        "dpo-beta-1-learning_rate-1e-06",
        "dpo-beta-1-learning_rate-2e-06",
        "dpo-beta-2-learning_rate-1e-06",
        "dpo-beta-2-learning_rate-2e-06",
    ]


def test_descendants_expand_through_slots_and_through_what_they_require(resolve: Callable[..., Graph]) -> None:
    graph = resolve((SEED, f"{SEED}sweep: {{reward.margin: [true, false]}}\n"))
    assert {"ppo-margin-true", "ppo-margin-false"} <= set(graph.stages)
    ppo = graph.stages["ppo-margin-true"]
    assert ppo.slots["reward"] == "reward-margin-true"
    assert ppo.requires[0].model == "reward-margin-true"


def test_a_requirement_alone_makes_a_descendant(resolve: Callable[..., Graph]) -> None:
    gated = "dpo: {aligner: dpo, requires: [{model: reward, metric: accuracy, value: '> 0.5'}], init"
    graph = resolve((SEED, f"{SEED}sweep: {{reward.max_length: [64, 128]}}\n"), ("dpo: {aligner: dpo, init", gated))
    assert graph.stages["dpo-max_length-128"].requires[0].model == "reward-max_length-128"


def test_an_option_that_happens_to_be_a_stage_name_stays(resolve: Callable[..., Graph]) -> None:
    graph = resolve(
        (SEED, f"{SEED}sweep: {{sigmoid.max_length: [64]}}\n"),
        ("  dpo: {aligner", "  sigmoid: {aligner: sft, init: base, data: toy.train}\n  dpo: {loss_type: sigmoid, aligner"),
    )
    assert graph.stages["dpo"].config.loss_type == "sigmoid"


def test_a_stage_and_one_that_it_builds_on_are_crossed(resolve: Callable[..., Graph]) -> None:
    graph = resolve(
        (SEED, f"{SEED}sweep: {{sft.max_length: [64, 128], dpo.beta: [1, 2]}}\n"),
        ("baseline: sft", "baseline: base"),
        ("referee: {aligner: reward, init: sft", "referee: {aligner: reward, init: base"),
    )
    found = {name: (node.slots["init"], node.config.beta) for name, node in graph.stages.items() if name.startswith("dpo")}
    assert found == {
        "dpo-beta-1-max_length-64": ("sft-max_length-64", 1),
        "dpo-beta-1-max_length-128": ("sft-max_length-128", 1),
        "dpo-beta-2-max_length-64": ("sft-max_length-64", 2),
        "dpo-beta-2-max_length-128": ("sft-max_length-128", 2),
    }


def test_problems_after_a_sweep_stand_where_they_were_written(resolve: Callable[..., Graph]) -> None:
    with pytest.raises(PlanError) as caught:
        resolve(
            (SEED, f"{SEED}sweep: {{dpo.beta: [1, 2]}}\n"),
            ("candidates: [dpo, ppo]", "candidates:\n  - dpo\n  - poo"),
            ("{model: ppo, metric: kl, suite: held", "{model: ppo, metric: kl, suite: hold"),
        )
    assert [str(each) for each in caught.value.problems] == [
        "plan.yaml:17: evaluate.candidates.1: no stage named 'poo'; did you mean \"ppo\"?"
    ]
    with pytest.raises(PlanError) as caught:
        resolve(
            (SEED, f"{SEED}sweep: {{dpo.beta: [1, 2]}}\n"),
            ("  - {model: ppo, metric: kl, suite: held, value", "  - {model: dpo, metric: kl, suite: hold, value"),
            (
                '  - {model: dpo, metric: kl, suite: held, value: "<= 5"}',
                '  - {model: ppo, metric: kl, suite: hald, value: "< 5"}',
            ),
        )
    assert [(each.line, each.path) for each in caught.value.problems] == [
        (22, "require.0.suite"),
        (23, "require.1.suite"),
    ]


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ("dpo.beta: [-1, 1]", ["sweep.dpo.beta: input should be greater than 0, not -1"]),
        ("dpo.beta: [-1], dpo.max_length: [64, 128]", ["sweep.dpo.beta: input should be greater than 0, not -1"]),
        ("dpo.betta: [1, 2]", ['sweep.dpo.betta: unknown option; did you mean "beta"?']),
        ("dpo.lorra.r: [4, 8]", ['sweep.dpo.lorra.r: unknown option; did you mean "lora"?']),
        ("dpo.lora.alfa: [4, 8]", ['sweep.dpo.lora.alfa: unknown option; did you mean "alpha"?']),
        ("dpo.lora.r: [0]", ["sweep.dpo.lora.r: input should be greater than or equal to 1, not 0"]),
        ("dpo: [0.1]", ["sweep.dpo: write STAGE.OPTION: name an option too, such as dpo.learning_rate"]),
        ("dpo..beta: [1]", ["sweep.dpo..beta: write STAGE.OPTION without an empty part"]),
        ("dpo.beta: 0.1", ["sweep.dpo.beta: a sweep is a list of values"]),
        ("referee.valid.x: [1]", ["sweep.referee.valid.x: `valid` of 'referee' is 'toy.valid'; nothing lies within it"]),
        (
            "dpo.beta: [1], dpo.lr_scheduler_type: [a/b]",
            [
                "sweep.dpo.lr_scheduler_type: makes a stage 'dpo-beta-1-lr_scheduler_type-a/b', which is no name; "
                "a name has up to 80 letters, digits, '-', '_' and '.'"
            ],
        ),
    ],
)
def test_what_is_wrong_with_a_sweep_is_told_once_and_there(
    resolve: Callable[..., Graph], sweep: str, told: list[str]
) -> None:
    with pytest.raises(PlanError) as caught:
        resolve((SEED, f"{SEED}sweep: {{{sweep}}}\n"))
    assert [str(each) for each in caught.value.problems] == [f"plan.yaml:2: {each}" for each in told]


def test_what_is_wrong_with_a_swept_stage_is_told_once_under_its_own_name(resolve: Callable[..., Graph]) -> None:
    with pytest.raises(PlanError) as caught:
        resolve(
            (SEED, f"{SEED}sweep: {{sft.max_length: [64, 128], dpo.beta: [1, 2]}}\n"),
            ("baseline: sft", "baseline: base"),
            ("referee: {aligner: reward, init: sft", "referee: {aligner: reward, init: base"),
            ("dpo: {aligner: dpo, init: sft", "dpo: {aligner: dpo, betta: 1, init: sft"),
        )
    assert [str(each) for each in caught.value.problems] == [
        'plan.yaml:12: stages.dpo.betta: unknown option; did you mean "beta"?'
    ]


def test_an_option_within_another_is_swept(resolve: Callable[..., Graph]) -> None:
    lora = ("dpo: {aligner: dpo, init", "dpo: {aligner: dpo, lora: {alpha: 8}, init")
    for replaced in ((), (lora,)):
        graph = resolve((SEED, f"{SEED}sweep: {{dpo.lora.r: [4, 8]}}\n"), *replaced)
        found = {name: node.config.lora for name, node in graph.stages.items() if name.startswith("dpo")}
        alpha = 8 if replaced else 32
        assert {name: (lora.r, lora.alpha) for name, lora in found.items()} == {
            "dpo-lora.r-4": (4, alpha),
            "dpo-lora.r-8": (8, alpha),
        }
    graph = resolve((SEED, f"{SEED}sweep: {{dpo.args.optim: [adamw_torch, adafactor]}}\n"))
    assert graph.stages["dpo-args.optim-adafactor"].config.args == {"optim": "adafactor"}


@pytest.mark.parametrize(
    ("sweep", "path", "text"),
    [
        ("sft.max_length: [64, 128]", "evaluate.baseline", "'sft' is swept; name one of sft-max_length-128, sft-max_length-64"),
        ("sft.max_length: [64]", "evaluate.judges.referee.model",
         "'referee' builds on a swept stage; name one of referee-max_length-64"),
    ],
)  # fmt: skip
def test_one_of_the_variants_is_to_be_named_where_one_model_is_meant(
    resolve: Callable[..., Graph], sweep: str, path: str, text: str
) -> None:
    with pytest.raises(PlanError) as caught:
        resolve((SEED, f"{SEED}sweep: {{{sweep}}}\n"))
    assert text in [each.text for each in caught.value.problems if each.path == path]
