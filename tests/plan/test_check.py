from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import PlanError
from harness.plan import Graph
from harness.plan.graph import Slot

GATES = (
    '{model: ppo, metric: kl, suite: held, value: "<= 9"}',
    '{model: dpo, metric: kl, suite: held, value: "<= 5"}',
)
"""What the small plan requires."""


def test_stages_come_after_what_they_build_on_and_otherwise_as_listed(resolve: Callable[..., Graph]) -> None:
    assert list(resolve().stages) == ["sft", "reward", "ppo", "referee", "dpo"]


def test_slots_and_options_are_resolved(resolve: Callable[..., Graph]) -> None:
    ppo = resolve().stages["ppo"]
    assert ppo.slots == {"init": "sft", "reward": "reward", "data": "toy.train"}
    assert (ppo.gives, ppo.options_set, str(ppo.requires[0])) == ("model", (), "reward accuracy: value >= 0.6")


def test_a_family_and_one_of_its_measures_are_asked_once(resolve: Callable[..., Graph]) -> None:
    graph = resolve(("[win-rate, reward, kl, accuracy]", "[kl-per-token, win-rate, kl]"))
    measures = {node.metric.name: [measure.name for measure in node.measures] for node in graph.metrics}
    assert measures["kl"] == ["kl-per-token", "kl", "kl-k1", "kl-k3", "kl-bound"]


def test_sections_left_empty_have_their_defaults(resolve: Callable[..., Graph]) -> None:
    graph = resolve(
        ("base: {type", "sweep:\nreport:\nrevision:\nbase: {type"), ("metrics:", "generate:\n  bootstrap:\n  metrics:")
    )
    assert graph.plan.sweep == {}
    assert graph.plan.evaluate is not None
    assert graph.plan.evaluate.bootstrap.level == 0.95


def test_a_circle_of_any_length_is_told_and_a_long_chain_is_none(resolve: Callable[..., Graph]) -> None:
    chain = "".join(f"  s{i}: {{aligner: sft, init: s{i + 1}, data: toy.train}}\n" for i in range(1500))
    end = "  s1500: {aligner: sft, init: base, data: toy.train}\n"
    assert len(resolve(("  dpo: {", f"{chain}{end}  dpo: {{")).stages) == 1506
    with pytest.raises(
        PlanError, match=r"stages.s0: stages build on each other in a circle: s0 → s1 → s2 → .* → s1500 → s0"
    ):
        resolve(("  dpo: {", f"{chain}{end.replace('base', 's0')}  dpo: {{"))


def test_what_is_broken_is_told_once_and_not_again_by_what_names_it(resolve: Callable[..., Graph]) -> None:
    with pytest.raises(PlanError) as caught:
        resolve(("source: toy", "source: tou"), ("sft: {aligner: sft", "sft: {aligner: sfd"))
    assert [each.path for each in caught.value.problems] == ["data.toy.source", "stages.sft.aligner"]


@pytest.mark.parametrize(
    ("text", "kind", "fits"),
    [
        ("model", "model", True),
        ("model", "reward-model", False),
        ("conversations | preferences", "preferences", True),
        ("conversations | preferences", "prompts", False),
        ("prompts?", "preferences", True),
        ("prompts", "conversations", True),
        ("prompts", "model", False),
    ],
)
def test_a_slot_accepts_its_kinds(text: str, kind: str, fits: bool) -> None:
    assert Slot.parse(text).accepts(kind) is fits
    assert Slot.parse(text).optional is text.endswith("?")


@pytest.mark.parametrize(("option", "value"), [("temperature", "0.5"), ("top_p", "0.9")])
def test_policies_along_a_training_are_compared_by_kl_which_needs_plain_sampling(
    resolve: Callable[..., Graph], option: str, value: str
) -> None:
    kept = ("dpo: {aligner: dpo, init: sft,", "dpo: {aligner: dpo, init: sft, checkpoints: 3,")
    sampling = (
        "  metrics: [win-rate, reward, kl, accuracy]\n",
        f"  generate: {{{option}: {value}}}\n  metrics: [win-rate]\n",
    )
    gates = [("require:", "require: []"), *((f"  - {line}\n", "") for line in GATES)]
    requires = (',\n        requires: [{model: reward, metric: accuracy, value: ">= 0.6"}]', "")
    resolve(sampling, requires, *gates)
    with pytest.raises(PlanError, match=rf"evaluate\.generate\.{option}: policies along a training .* out of dpo"):
        resolve(kept, sampling, requires, *gates)
