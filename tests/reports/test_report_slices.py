"""Parts of suites, the prompts that carry a metric, and the measured error of what reads the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from conftest import EVIL, estimate, estimates, lock
from harness_reports.carriers import carried
from harness_reports.facts import read_facts
from harness_reports.render import write_report
from harness_reports.slices import slices
from harness_reports.view import build_view

from harness import Observation, SliceEstimate
from harness.records import write_json, write_records
from harness.rundir import RunFolder

MakeRun = Callable[..., RunFolder]


def part(name: str, value: float, low: float, high: float, adjusted: float | None, **fields: Any) -> SliceEstimate:
    given = estimate("dpo", "length", value, low, high, unit="characters per answer", n=40, clusters=40, **fields)
    tested = {"p_value": None if adjusted is None else adjusted / 2, "p_adjusted": adjusted}
    return SliceEstimate(**{**given.model_dump(), **tested}, dimension="category", slice=name)


def run_with(make_run: MakeRun, parts: list[SliceEstimate], **more: Any) -> RunFolder:
    run = make_run()
    document = {
        "estimates": [each.model_dump() for each in estimates()],
        "slices": [each.model_dump() for each in parts],
        **{name: [each.model_dump() for each in found] for name, found in more.items()},
    }
    write_json(run.path / "metrics.json", document)
    return run


def test_what_stands_out_has_an_interval_a_test_and_enough_prompts_behind_it(make_run: MakeRun) -> None:
    parts = [
        part("level", 90.0, 80.0, 100.0, None),
        part("certain " + EVIL, 30.0, 10.0, 50.0, 0.01, baseline="sft"),
        part("chance", 30.0, 10.0, 50.0, 0.06, baseline="sft"),
        part("wide", 30.0, -10.0, 70.0, 0.01, baseline="sft"),
        part("few", 30.0, 10.0, 50.0, 0.01, baseline="sft").model_copy(update={"clusters": 9}),
    ]
    found = slices(read_facts(run_with(make_run, parts)))
    assert found is not None
    assert found.tested == "4 comparisons"
    (said,) = found.standing_out
    assert said.startswith("DPO against SFT: `length` on `heldout`, category `certain ")
    assert "+30" in said
    assert "adjusted p 0.01" in said
    (table,) = found.tables
    ((dimension, rows),) = table.dimensions
    assert (dimension, [row.slice for row in rows][2:], rows[0].n) == ("category", ["chance", "wide", "few"], 40)


def test_prompts_that_every_training_seed_answered_are_counted_once(make_run: MakeRun) -> None:
    seen = part("seeded", 30.0, 10.0, 50.0, 0.01, baseline="sft").model_copy(
        update={"n": 60, "clusters": 20, "seeds": 3}
    )  # fmt: skip
    found = slices(read_facts(run_with(make_run, [seen])))
    assert found is not None
    assert ", 20 prompts, adjusted p" in found.standing_out[0]
    assert found.tables[0].dimensions[0][1][0].n == 20


def test_a_circular_judge_makes_no_part_stand_out(make_run: MakeRun) -> None:
    def won(model: str, judge: str) -> SliceEstimate:
        fields = {"model": model, "metric": "win-rate", "judge": judge, "value": 0.9, "low": 0.8, "high": 0.95}
        return part(f"{model} by {judge}", 30.0, 10.0, 50.0, 0.01, baseline="sft").model_copy(update=fields)

    found = slices(read_facts(run_with(make_run, [won("ppo", "reward"), won("ppo", "truth"), won("dpo", "truth")])))
    assert found is not None
    assert [said.split(":")[0] + said.split(" by ")[-1][:5] for said in found.standing_out] == [
        "PPO against SFTtruth", "DPO against SFTtruth",
    ]  # fmt: skip


def test_a_run_without_slices_has_no_section_and_its_numbers_are_the_whole_suites(make_run: MakeRun) -> None:
    assert slices(read_facts(make_run())) is None
    facts = read_facts(run_with(make_run, [part("only", 1.0, 0.5, 1.5, 0.01, baseline="sft")]))
    assert [each.value for each in facts.select("length")] == [31.0], "a part is never taken for the whole"


def test_the_prompts_that_carry_a_difference_are_those_that_add_most_in_its_direction(make_run: MakeRun) -> None:
    run = make_run()
    # Differences 4, -2, 10, 0 and 6, sum 18, mean 3.6: p2 adds 10/5 = 2 and p4 adds 6/5 = 1.2.
    values = {"p0": (9.0, 5.0), "p1": (3.0, 5.0), "p2": (15.0, 5.0), "p4": (11.0, 5.0), "p5": (5.0, 5.0)}
    write_records(
        run.path / "observations.jsonl",
        [
            Observation(
                prompt_id=key, root=key, suite="heldout", model="dpo", metric="length", value=one, baseline_value=other
            )
            for key, (one, other) in values.items()
        ],
    )
    (found,) = carried(read_facts(run))
    assert (found.candidate, found.baseline, found.metric, found.difference) == ("dpo", "sft", "length", "+31 [12, 50]")
    assert [(each.adds, each.candidate.split(" of ")[0], each.baseline.split(".")[0]) for each in found.examples] == [
        ("+2 characters per answer", "Answer 2", "Answer 2 of sft"), ("+1.2 characters per answer", "Answer 4", "Answer 4 of sft"),
    ]  # fmt: skip


def test_the_error_of_what_reads_the_answers_stands_beside_what_it_read(make_run: MakeRun) -> None:
    found = [
        estimate("refusal-detector", "sensitivity", 0.57, 0.44, 0.68, suite="refusal-answers", unit="share of refusals"),
        estimate("refusal-detector", "specificity", 0.97, 0.89, 0.99, suite="refusal-answers", unit="share of others"),
    ]
    run = run_with(make_run, [], instruments=found)
    document = lock() | {"metrics": {"length": {"instrument": "refusal-detector"}, "kl": {"instrument": None}}}
    (run.path / "plan.lock.json").write_text(json.dumps(document))
    (table, *_) = build_view(read_facts(run)).tables
    shown = {row.metric: row.instrument.replace("\u00a0", " ") for row in table.rows}
    assert shown["length"] == "refusal-detector: sensitivity 57 % [44, 68], specificity 97 % [89, 99]"
    assert shown["kl"] == ""
    assert "refusal-answers" not in {each.suite for each in build_view(read_facts(run)).tables}
    assert "refusal-detector: sensitivity" in write_report(run).read_text(encoding="utf-8")


def test_hostile_text_in_slices_and_carriers_is_escaped(make_run: MakeRun) -> None:
    run = run_with(make_run, [part("x " + EVIL, 30.0, 10.0, 50.0, 0.01, baseline="sft")])
    row = Observation(
        prompt_id="p0", root="p0", suite="heldout", model="dpo", metric="length", value=9.0, baseline_value=5.0
    )  # fmt: skip
    write_records(run.path / "observations.jsonl", [row])
    page = write_report(run).read_text(encoding="utf-8")
    assert 'id="slices"' in page
    assert 'id="carriers"' in page
    assert "<script>" not in page
