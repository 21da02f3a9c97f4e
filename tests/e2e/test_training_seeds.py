"""A plan with `seeds`: every stage is trained with each, and the estimates are over all of them."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest

pytest.importorskip("torch")

from micro import estimates, harness

from harness.rundir import RunFolder

pytestmark = pytest.mark.torch

SEEDS = ("seed: 3\n", "seed: 3\nseeds: [3, 5]\n")
CANDIDATES = ("candidates: [dpo, ppo]", "candidates: [dpo, ppo, base]")


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the micro-plan that was run with two training seeds, and its store."""
    from micro import PLAN

    folder = tmp_path_factory.mktemp("seeds")
    plan = PLAN.replace(*CANDIDATES)
    (folder / "plan.yaml").write_text(plan.replace(*SEEDS), encoding="utf-8")
    (folder / "once.yaml").write_text(plan, encoding="utf-8")
    done = harness(folder, "run", "plan.yaml", "--out", "run")
    assert done.returncode == 0, done.stderr
    return folder


def test_every_stage_is_trained_with_each_seed_and_gives_another_model(seeded: Path) -> None:
    stages = RunFolder(seeded / "run").run()["stages"]
    for name in ("sft", "reward", "referee", "dpo", "ppo"):
        assert stages[name]["status"] == stages[f"{name}-seed-5"]["status"] == "done"
        assert stages[name]["key"] != stages[f"{name}-seed-5"]["key"]


def test_the_first_seeds_stages_are_those_of_the_plan_with_that_seed_alone(seeded: Path) -> None:
    done = harness(seeded, "run", "once.yaml", "--out", "once")
    assert done.returncode == 0, done.stderr
    for name in ("sft", "reward", "referee", "dpo", "ppo"):
        assert f"{name}: reused" in done.stdout + done.stderr
    once = {(e["model"], e["metric"], e["judge"], e["suite"], e["baseline"]): e for e in estimates(seeded / "once")}
    for each in RunFolder(seeded / "run").seeds():
        if each.training_seed == 3:
            same = once[each.model, each.metric, each.judge, each.suite, each.baseline]
            assert (each.value, each.low, each.high) == (same["value"], same["low"], same["high"])


def test_estimates_are_over_both_seeds_under_the_plans_names(seeded: Path) -> None:
    run = RunFolder(seeded / "run")
    by_seed: dict[tuple[str | None, ...], list[float]] = {}
    for each in run.seeds():
        by_seed.setdefault((each.model, each.metric, each.judge, each.suite, each.baseline), []).append(each.value)
    pooled = [each for each in run.estimates() if each.seeds]
    assert {each.model for each in pooled} == {"sft", "reward", "referee", "dpo", "ppo", "base"}
    assert {"win-rate", "win-rate-difference", "kl", "accuracy", "refusal-unsafe"} <= {each.metric for each in pooled}
    for each in pooled:
        assert each.seeds == 2
        assert each.low <= each.value <= each.high
        assert each.value == pytest.approx(fmean(by_seed[each.model, each.metric, each.judge, each.suite, each.baseline]))
    # What judges are like is measured on the first seed's answers; nothing else is left out.
    assert not any("seed-5" in each.model for each in run.estimates())


def test_models_are_compared_within_their_seed_by_the_first_seeds_referee(seeded: Path) -> None:
    run = RunFolder(seeded / "run")
    compared = {key[1] for key in run.judgements()}
    trained = {f"{model}{seed}--sft{seed}" for model in ("dpo", "ppo") for seed in ("", "-seed-5")}
    assert compared == trained | {"base--sft", "base--sft-seed-5"}
    assert run.lock()["judges"]["referee"]["models"] == {"model": "referee"}


def test_a_difference_is_from_the_baseline_of_the_same_seed(seeded: Path) -> None:
    run = RunFolder(seeded / "run")
    lengths = {(model, row.prompt_id): len(row.answer) for (model, _), rows in run.samples().items() for row in rows}
    found = [each for each in run.observations() if each.metric == "length" and each.training_seed == 5]
    assert {each.model for each in found} == {"sft", "dpo", "ppo", "base"}
    for each in found:
        # No stage trains the base: it stands against the baseline of every seed.
        name = "base" if each.model == "base" else f"{each.model}-seed-5"
        assert each.value == lengths[name, each.prompt_id]
        of_baseline = None if each.model == "sft" else lengths["sft-seed-5", each.prompt_id]
        assert each.baseline_value == of_baseline


def test_health_judges_each_training_by_its_own_seed(seeded: Path) -> None:
    checked = RunFolder(seeded / "run").health_checked()
    assert set(checked) >= {"reward", "reward-seed-5", "dpo", "dpo-seed-5"}
    assert checked["referee"] == checked["referee-seed-5"]


def test_the_report_shows_both_parts_of_the_error(seeded: Path) -> None:
    html = (seeded / "run" / "report.html").read_text(encoding="utf-8")
    assert "<h2>Training seeds</h2>" in html
    assert "Error, seeds alone" in html
    assert "Every stage was trained with 2 seeds" in html
    assert "each model was trained once" not in html


def test_a_rerun_computes_nothing(seeded: Path) -> None:
    done = harness(seeded, "run", "plan.yaml", "--out", "again")
    assert "computed nothing" in done.stdout + done.stderr
    both = [json.loads((seeded / name / "metrics.json").read_text(encoding="utf-8")) for name in ("run", "again")]
    assert both[0] == both[1]


def test_check_names_the_seeds_and_every_training(seeded: Path) -> None:
    done = harness(seeded, "check", "plan.yaml")
    assert "with training seeds 3, 5" in done.stdout
    assert "ppo-seed-5" in done.stdout
