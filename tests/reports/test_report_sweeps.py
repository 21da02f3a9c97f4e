"""Sweeps in the report: every variant with its value and what was measured of it, from the lock and the estimates alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from conftest import EVIL, estimate, win_rate
from harness_reports.facts import read_facts
from harness_reports.render import render
from harness_reports.sweeps import sweeps
from harness_reports.view import build_view

from harness.records import Estimate, write_json
from harness.rundir import RunFolder

MakeRun = Callable[..., RunFolder]


def with_sweep(
    run: RunFolder, sweep: dict[str, list[Any]], stages: dict[str, dict[str, Any]], candidates: list[str] | None = None
) -> RunFolder:
    """The run as one whose plan has a sweep that made these stages, given by the options that they were resolved to."""
    lock = json.loads((run.path / "plan.lock.json").read_text(encoding="utf-8"))
    template = lock["stages"].pop("dpo")
    lock["stages"] |= {name: template | {"options": options} for name, options in stages.items()}
    lock["plan"]["sweep"] = sweep
    lock["plan"]["evaluate"]["candidates"] = candidates or list(stages)
    write_json(run.path / "plan.lock.json", lock)
    return run


def measured(names: list[str]) -> list[Estimate]:
    return [
        each
        for place, name in enumerate(names)
        for each in (
            win_rate(name, 0.6 + place / 100, 0.5 + place / 100, 0.7 + place / 100),
            estimate(name, "kl", 3.0 - place, 2.5 - place, 3.5 - place, unit="nats per answer"),
        )
    ]


BETAS = {"dpo-beta-0.05": {"beta": 0.05}, "dpo-beta-0.5": {"beta": 0.5}}


def test_each_variant_has_its_value_win_rate_and_kl(make_run: MakeRun) -> None:
    run = with_sweep(make_run(measured(list(BETAS))), {"dpo.beta": [0.05, 0.5]}, BETAS)
    (sweep,) = sweeps(read_facts(run))
    assert (sweep.stage, sweep.options) == ("dpo", ("beta",))
    assert [(each.stage, each.values, each.win_rate, each.kl) for each in sweep.variants] == [
        ("dpo-beta-0.05", ("0.05",), "60\u00a0% [50, 70]", "3.0 [2.5, 3.5]"),
        ("dpo-beta-0.5", ("0.5",), "61\u00a0% [51, 71]", "2.0 [1.5, 2.5]"),
    ]
    assert sweep.rated == "Win rates against `sft`, judged by `truth` on `heldout`."
    assert len(sweep.charts) == 2
    assert "0.05: 60\u00a0% [50, 70]; 0.5: 61\u00a0% [51, 71]" in sweep.charts[0]
    html = render(build_view(read_facts(run)))
    assert "<h2>Sweeps</h2>" in html
    assert html.count("sweep-0-kl-title") == 2  # the title and what refers to it


def test_an_option_within_another_is_found(make_run: MakeRun) -> None:
    stages = {f"dpo-lora.r-{r}": {"lora": {"r": r, "alpha": 32}} for r in (4, 8)}
    (sweep,) = sweeps(read_facts(with_sweep(make_run(measured(list(stages))), {"dpo.lora.r": [4, 8]}, stages)))
    assert (sweep.stage, sweep.options) == ("dpo", ("lora.r",))
    assert [(each.stage, each.values) for each in sweep.variants] == [("dpo-lora.r-4", ("4",)), ("dpo-lora.r-8", ("8",))]


def test_a_run_without_a_sweep_has_no_such_section(make_run: MakeRun) -> None:
    assert sweeps(read_facts(make_run())) == ()
    assert "<h2>Sweeps</h2>" not in render(build_view(read_facts(make_run())))


def test_crossed_options_give_a_line_for_each_value_of_the_second(make_run: MakeRun) -> None:
    stages = {
        f"dpo-beta-{beta:g}-loss_type-{kind}": {"beta": beta, "loss_type": kind}
        for beta in (0.1, 0.2)
        for kind in ("ipo", "hinge")
    }
    sweep = {"dpo.beta": [0.1, 0.2], "dpo.loss_type": ["ipo", "hinge"]}
    (found,) = sweeps(read_facts(with_sweep(make_run(measured(list(stages))), sweep, stages)))
    assert found.options == ("beta", "loss_type")
    assert [each.values for each in found.variants] == [("0.1", "ipo"), ("0.1", "hinge"), ("0.2", "ipo"), ("0.2", "hinge")]
    assert "loss_type ipo, 0.1: 60\u00a0%" in found.charts[0]
    assert "loss_type hinge" in found.charts[0]


def test_two_swept_stages_that_build_on_each_other_are_two_sweeps(make_run: MakeRun) -> None:
    """Variants of the later one are repeated for every variant of the earlier one, and told apart by it."""
    stages = {f"dpo-beta-{beta:g}-epochs-{n}": {"beta": beta} for beta in (0.1, 0.2) for n in (1, 2)}
    others = {f"first-epochs-{n}": {"epochs": n} for n in (1, 2)}
    run = make_run(measured([*stages, *others]))
    one, other = sweeps(read_facts(with_sweep(run, {"first.epochs": [1, 2], "dpo.beta": [0.1, 0.2]}, {**others, **stages})))
    assert [each.stage for each in one.variants] == list(others)
    assert [each.stage for each in other.variants] == list(stages)
    assert "epochs-2, 0.1: " in other.charts[0]


def test_a_stage_that_is_only_named_like_a_variant_is_none(make_run: MakeRun) -> None:
    stages = {**BETAS, "dpo-beta-0.05-mine": {"beta": 0.7}, "dpo2-beta-0.05": {"beta": 0.05}}
    run = with_sweep(make_run(measured(list(stages))), {"dpo.beta": [0.05, 0.5]}, stages)
    assert [each.stage for each in sweeps(read_facts(run))[0].variants] == list(BETAS)


def test_a_variant_that_was_not_measured_has_a_dash_and_no_point(make_run: MakeRun) -> None:
    run = with_sweep(make_run(measured(["dpo-beta-0.05"])), {"dpo.beta": [0.05, 0.5]}, BETAS)
    (sweep,) = sweeps(read_facts(run))
    assert [(each.win_rate != "–", each.kl != "–") for each in sweep.variants] == [(True, True), (False, False)]
    run = with_sweep(make_run([]), {"dpo.beta": [0.05, 0.5]}, BETAS)
    (sweep,) = sweeps(read_facts(run))
    assert sweep.charts == ()
    assert sweep.rated is None
    render(build_view(read_facts(run)))


def test_text_and_truth_values_stand_in_their_order_and_are_escaped(make_run: MakeRun) -> None:
    for option, values in (("loss_type", ["ipo", EVIL]), ("margin", [True, False])):
        stages = {
            f"dpo-{option}-{str(value).lower() if value in (True, False) else value}": {option: value} for value in values
        }
        run = with_sweep(make_run(measured(list(stages))), {f"dpo.{option}": values}, stages)
        (sweep,) = sweeps(read_facts(run))
        assert len(sweep.variants) == 2
        assert "<script" not in render(build_view(read_facts(run)))
