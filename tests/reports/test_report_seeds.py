"""Training seeds in the report: each seed's numbers, both parts of the error, and sentences that say what more would tell."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from conftest import estimate, win_rate
from harness_reports.facts import read_facts
from harness_reports.judges import costs_in_words
from harness_reports.power import what_would_tell
from harness_reports.render import render
from harness_reports.seeds import training_seeds
from harness_reports.verdict import verdict
from harness_reports.view import build_view

from harness.records import Estimate, Judgement, Observation, SeedEstimate, Usage, write_json, write_records
from harness.rundir import RunFolder

MakeRun = Callable[..., RunFolder]


def of_seed(each: Estimate, training_seed: int, value: float) -> SeedEstimate:
    return SeedEstimate(**{**each.model_dump(), "value": value, "seeds": None}, training_seed=training_seed)


def over(each: Estimate, seed_error: float, prompt_error: float) -> Estimate:
    return each.model_copy(update={"seeds": 2, "seed_error": seed_error, "prompt_error": prompt_error})


@pytest.fixture
def seeded(make_run: MakeRun) -> RunFolder:
    """A run with two training seeds, whose `dpo` was trained again as `dpo-seed-5`."""
    rate = over(win_rate("dpo", 0.6, 0.45, 0.74, p_value=0.11), 0.05, 0.03)
    kl = over(estimate("dpo", "kl", 3.0, 2.0, 4.0, unit="nats per answer"), 0.4, 0.1)
    run = make_run([rate, kl])
    lock = json.loads((run.path / "plan.lock.json").read_text(encoding="utf-8"))
    lock["plan"]["seeds"] = [3, 5]
    lock["stages"]["dpo-seed-5"] = lock["stages"]["dpo"] | {"copy_of": "dpo"}
    write_json(run.path / "plan.lock.json", lock)
    metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    metrics["seeds"] = [
        of_seed(each, seed, value).model_dump()
        for each, values in ((rate, (0.55, 0.65)), (kl, (2.6, 3.4)))
        for seed, value in zip((3, 5), values, strict=True)
    ]
    write_json(run.path / "metrics.json", metrics)
    return run


def test_a_row_has_each_seeds_value_and_both_errors_in_the_units_of_the_estimate(seeded: RunFolder) -> None:
    found = training_seeds(read_facts(seeded))
    assert found is not None
    assert found.seeds == (3, 5)
    rate, kl = found.tables
    assert (rate.metric, rate.unit, rate.first) == ("win-rate", "%", True)
    assert (rate.rows[0].values, rate.rows[0].seed_error, rate.rows[0].prompt_error) == (("55", "65"), "5", "3")
    assert (kl.rows[0].values, kl.rows[0].seed_error, kl.rows[0].prompt_error) == (("2.6", "3.4"), "0.4", "0.1")


def test_the_verdict_says_that_training_is_covered_and_names_the_test(seeded: RunFolder) -> None:
    found = verdict(read_facts(seeded))
    assert "on `heldout`, 200 prompts and 2 training seeds" in found.claims[0].text
    assert found.notes[0].startswith("Every stage was trained with 2 seeds")
    assert not any("trained once" in note for note in found.notes)


def test_a_copy_is_in_the_cost_table_and_in_no_other(seeded: RunFolder) -> None:
    facts = read_facts(seeded)
    view = build_view(facts)
    assert "dpo-seed-5" in {each.stage for each in view.costs}
    assert "dpo-seed-5" not in {each.stage for each in view.methods}
    assert "dpo-seed-5" not in {each.curves.stage for each in view.trained}
    assert "<h2>Training seeds</h2>" in render(view)


def test_answers_and_what_was_observed_of_them_are_the_first_seeds(seeded: RunFolder) -> None:
    rows = [
        Observation(prompt_id="1", root="1", suite="heldout", model="dpo", metric="length", training_seed=seed, value=seed)
        for seed in (3, 5)
    ]
    write_records(seeded.path / "observations.jsonl", rows)
    samples = read_facts(seeded).samples["dpo", "heldout"]
    write_records(seeded.path / "samples" / "dpo-seed-5" / "heldout.jsonl", samples)
    facts = read_facts(seeded)
    assert [each.training_seed for each in facts.observations] == [3]
    assert not any(model == "dpo-seed-5" for model, _ in facts.samples)


def test_without_seeds_there_is_no_section(make_run: MakeRun) -> None:
    facts = read_facts(make_run())
    assert training_seeds(facts) is None
    assert "Training seeds" not in render(build_view(facts))


def test_seeds_that_differ_by_more_than_the_gap_ask_for_seeds_and_not_for_prompts() -> None:
    each = over(win_rate("dpo", 0.52, 0.40, 0.64, standard_error=0.06), 0.05, 0.03)
    assert "no number of prompts would find one as small as the 2.0 points seen here" in what_would_tell(each, 0.5)
    assert "train more of them" in what_would_tell(each, 0.5)


def test_prompts_needed_leave_the_seeds_part_as_it_is() -> None:
    # (1.96 + 0.8416)² · 0.03² · 200 / (0.08² - (2.8016 · 0.01)²) = 251.6 prompts.
    each = over(win_rate("dpo", 0.58, 0.48, 0.68, standard_error=0.0316), 0.01, 0.03)
    assert "would need about 260" in what_would_tell(each, 0.5)


def test_what_a_judge_cost_is_over_all_seeds(seeded: RunFolder) -> None:
    """Each of two seeds has five judgements, of two replies and two cents each."""
    for pair in ("dpo--sft", "dpo-seed-5--sft"):
        candidate, baseline = pair.split("--")
        judged = [
            Judgement(
                prompt_id=f"p{n}", suite="heldout", judge="truth", candidate=candidate, baseline=baseline, preference=1.0,
                candidate_length=1, baseline_length=1, cost=0.02, usage=Usage(model="m", replies=2),
            )
            for n in range(5)
        ]  # fmt: skip
        write_records(seeded.path / "judgements" / "truth" / pair / "heldout.jsonl", judged)
    (told,) = costs_in_words(read_facts(seeded))
    assert "rests on 20 replies, $0.20" in told


def test_what_was_trained_once_is_named_where_other_intervals_cover_the_training(seeded: RunFolder) -> None:
    document = json.loads((seeded.path / "metrics.json").read_text(encoding="utf-8"))
    once = win_rate("ppo", 0.6, 0.52, 0.67)
    document["estimates"].append(once.model_dump())
    write_json(seeded.path / "metrics.json", document)
    note = verdict(read_facts(seeded)).notes[0]
    assert note.startswith("Stages were trained with up to 2 seeds, and intervals cover the training")
    assert "; for PPO against SFT there is one training at most, and only the choice of prompts is covered." in note


def test_a_seed_that_an_estimate_lacks_is_not_claimed_for_every_stage(seeded: RunFolder) -> None:
    document = json.loads((seeded.path / "metrics.json").read_text(encoding="utf-8"))
    third = of_seed(estimate("dpo", "kl", 3.0, 2.0, 4.0, unit="nats per answer"), 7, 3.0)
    document["seeds"].append(third.model_dump())
    write_json(seeded.path / "metrics.json", document)
    note = verdict(read_facts(seeded)).notes[0]
    assert note.startswith("Stages were trained with up to 3 seeds")
    assert "one training at most" not in note
