"""The monitor: rules get to see enough and no less, every verdict is told once, and only a warning ends a stage."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.components import Aligner, Compute
from harness.context import RunningStage
from harness.errors import StageError, UsageError
from harness.health import Finding, Monitor, Readings, Rule, independent_judges, rules_of
from harness.hookspecs import pluggy
from harness.records import Estimate, HealthVerdict
from harness.session import open_session
from harness.store import Workspace


def above_two(readings: Readings) -> Finding | None:
    (now,) = readings.last("x", 1)
    return Finding(now, f"x is {now:g}") if now > 2 else None


def rule(**fields: Any) -> Rule:
    given: dict[str, Any] = {
        "aligner": "mine", "name": "x", "look": above_two, "threshold": "x <= 2", "advice": "Lower x.", "scalars": ("x",)
    }  # fmt: skip
    return Rule(**(given | fields))


def watch(*rules: Rule, stop: bool = False) -> tuple[Monitor, list[HealthVerdict]]:
    told: list[HealthVerdict] = []
    return Monitor("stage", rules, told.append, stop=stop), told


def estimate(metric: str, value: float, **fields: Any) -> Estimate:
    given: dict[str, Any] = {
        "model": "stage", "suite": "heldout", "standard_error": 0.1, "low": value - 0.1, "high": value + 0.1, "level": 0.95,
        "n": 30, "clusters": 30, "method": "bca", "unit": "", "seed": 0,
    }  # fmt: skip
    return Estimate(metric=metric, value=value, **(given | fields))


def test_a_verdict_says_rule_value_threshold_and_what_to_do_and_is_given_once() -> None:
    monitor, told = watch(rule())
    for step, value in ((10, 1.0), (20, 3.0), (30, 4.0)):
        monitor.log(step, {"x": value})
    monitor.finish()
    assert told == [
        HealthVerdict(
            stage="stage",
            rule="x",
            level="warning",
            step=20,
            value=3.0,
            threshold="x <= 2",
            text="x is 3",
            advice="Lower x.",
        )
    ]


def test_a_rule_waits_for_as_many_values_as_it_needs() -> None:
    monitor, told = watch(rule(needs=3))
    for step in (1, 2):
        monitor.log(step, {"x": 3.0, "y": 1.0})
    assert told == []
    assert monitor.checked() == ([], ["x"])
    monitor.log(3, {"y": 1.0})
    assert told == [], "a step without the scalar does not count"
    monitor.log(4, {"x": 3.0})
    assert [each.step for each in told] == [4]
    assert monitor.checked() == (["x"], [])


def test_a_rule_waits_until_its_share_of_the_training_is_over() -> None:
    monitor, told = watch(rule(after=0.5))
    for step in range(1, 6):
        monitor.log(step, {"x": 3.0}, total=10)
    assert [each.step for each in told] == [5]


def test_without_a_known_end_such_a_rule_judges_when_the_training_is_over() -> None:
    monitor, told = watch(rule(after=0.5))
    monitor.log(5, {"x": 3.0})
    assert told == []
    monitor.finish()
    assert [each.step for each in told] == [5]


def test_stop_ends_the_stage_with_one_line_and_a_note_never_does() -> None:
    monitor, told = watch(rule(level="note", name="note"), rule(), stop=True)
    with pytest.raises(StageError) as ended:
        monitor.log(7, {"x": 3.0})
    text = str(ended.value)
    assert text.startswith("stage 'stage': stopped at step 7 by its health rule 'x': x is 3 (healthy: x <= 2). Lower x.")
    assert "health: warn" in text
    assert "\n" not in text
    assert [each.rule for each in told] == ["note", "x"]
    only, told = watch(rule(level="note"), stop=True)
    only.log(7, {"x": 3.0})
    assert len(told) == 1


def test_going_back_to_a_checkpoint_forgets_what_came_after_it(tmp_path: Path) -> None:
    """Without the reset the rule would see the values of steps 1 to 3 twice, and judge two too early."""
    monitor, told = watch(rule(needs=5))
    work = Workspace(tmp_path / "output", tmp_path / "checkpoints")
    work.output.mkdir()
    work.checkpoints.mkdir()
    compute = Compute("cpu", "fp32", 1)
    context = RunningStage("stage", 1, compute, work, lambda *_: None, lambda _: None, lambda *_: tmp_path, monitor)
    for step in (1, 2, 3):
        context.log(step, {"x": 3.0})
    context.rewind(2)
    for step in (3, 4):
        context.log(step, {"x": 3.0})
    assert told == []
    context.log(5, {"x": 3.0})
    assert [each.step for each in told] == [5]


def test_a_rule_on_estimates_waits_for_all_of_them_over_enough_prompts_of_its_own_model() -> None:
    def high(readings: Readings) -> Finding | None:
        return next((Finding(each.value, "kl") for each in readings.levels("kl") if each.low > 5), None)

    monitor, told = watch(rule(look=high, scalars=(), metrics=("kl", "length")))
    length = estimate("length", 9)
    monitor.log(1, {"x": 3.0})
    monitor.finish()
    monitor.evaluate([estimate("kl", 9)], None, frozenset())
    monitor.evaluate([estimate("kl", 9, clusters=29), length], None, frozenset())
    monitor.evaluate([estimate("kl", 9, model="other"), length], None, frozenset())
    assert told == []
    assert monitor.checked() == ([], ["x"])
    monitor.evaluate([estimate("kl", 9), length], None, frozenset())
    assert [(each.step, each.value) for each in told] == [(None, 9.0)]


def test_a_rule_whose_estimates_are_all_by_judges_that_do_not_count_could_not_judge() -> None:
    monitor, told = watch(rule(look=lambda _: None, scalars=(), metrics=("reward",)))
    monitor.evaluate([estimate("reward", 9, judge="reward", baseline="sft")], "sft", frozenset({"truth"}))
    assert monitor.checked() == ([], ["x"])
    monitor.evaluate([estimate("reward", 9, judge="truth", baseline="sft")], "sft", frozenset({"truth"}))
    assert (monitor.checked(), told) == ((["x"], []), [])


def test_what_one_piece_of_evidence_said_another_does_not_say_again() -> None:
    later = rule(look=lambda _: Finding(9, "kl"), scalars=(), metrics=("kl",))
    monitor, told = watch(rule(), later)
    monitor.log(1, {"x": 3.0})
    monitor.evaluate([estimate("kl", 9)], None, frozenset())
    assert [each.text for each in told] == ["x is 3"]


def test_comparisons_are_with_the_baseline_and_by_independent_judges_only() -> None:
    found = [
        estimate("reward", 1, judge="truth", baseline="sft"),
        estimate("reward", 2, judge="upstream", baseline="sft"),
        estimate("reward", 3, judge="truth", baseline="dpo"),
        estimate("reward", 4, judge="truth"),
    ]
    readings = Readings({}, found, "sft", frozenset({"truth"}))
    assert [each.value for each in readings.against("reward")] == [1]
    assert [each.value for each in readings.levels("reward")] == [4]
    assert Readings({}, found).against("reward") == []


def judge(plugin: str, option: str | None = None, **models: str) -> Any:
    return SimpleNamespace(judge=SimpleNamespace(name=plugin), config=SimpleNamespace(model=option), models=models)


def test_a_judge_without_a_model_does_not_count_where_the_stage_was_trained_against_it() -> None:
    """Under another name, too; another plugin, or another model that it asks, is another judge."""
    judges = {
        "truth": judge("toy-truth"),
        "short": judge("brevity"),
        "small": judge("llm", "a"),
        "large": judge("llm", "b"),
    }
    rewards = {"ppo": [judge("toy-truth"), judge("llm", "a")], "dpo": []}
    graph: Any = SimpleNamespace(judges=judges, upstream=lambda _: {"sft"}, trained_against=rewards.__getitem__)
    assert independent_judges(graph, "ppo", []) == {"short", "large"}
    assert independent_judges(graph, "dpo", []) == set(judges)


def test_a_judge_counts_unless_it_lies_upstream_or_is_unproven() -> None:
    models = {"truth": {}, "own": {"model": "reward"}, "referee": {"model": "referee"}, "weak": {"model": "weak"}}
    judges = {name: judge(name, **each) for name, each in models.items()}
    graph: Any = SimpleNamespace(judges=judges, upstream=lambda _: {"sft", "reward"}, trained_against=lambda _: [])
    chance = [estimate("accuracy", 0.55, model="weak"), estimate("accuracy", 0.7, model="referee")]
    assert independent_judges(graph, "ppo", chance) == {"truth", "referee"}
    fooled = estimate("canary-constant", 0.85, model="truth", judge="truth", low=0.64)
    assert independent_judges(graph, "ppo", [*chance, fooled]) == {"referee"}
    unclear = estimate("canary-constant", 0.6, model="truth", judge="truth", low=0.39)
    assert independent_judges(graph, "ppo", [*chance, unclear]) == {"truth", "referee"}


def test_a_subclass_is_watched_by_the_rules_of_what_it_is_a_kind_of() -> None:
    mine = type("Mine", (Aligner,), {"name": "mine"})
    child = type("Child", (mine,), {"name": "child"})
    nameless = type("Nameless", (mine,), {})
    rules = [rule(), rule(aligner="child", name="y"), rule(aligner="other", name="z")]
    assert [each.name for each in rules_of(mine, rules)] == ["x"]
    assert [each.name for each in rules_of(child, rules)] == ["x", "y"]
    assert [each.name for each in rules_of(nameless, rules)] == ["x"]


def test_two_plugins_must_not_bring_rules_of_one_name() -> None:
    session = open_session()

    @pluggy.HookimplMarker("harness")
    def harness_health_rules() -> list[Rule]:
        return [rule(aligner="dpo", name="kl")]

    session.plugins.manager.register(SimpleNamespace(harness_health_rules=harness_health_rules), name="second")
    with pytest.raises(UsageError, match=r"'kl' of 'dpo' is defined by plugin 'health'.* and by 'second'"):
        _ = session.registry
