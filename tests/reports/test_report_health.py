"""The section on health: every verdict in words, with its rule, value and bound; and what could not be judged."""

from __future__ import annotations

from collections.abc import Callable

from conftest import lock, run_json, warning
from harness_reports.facts import Facts, read_facts
from harness_reports.health import health, warnings_in_words
from harness_reports.render import write_report

from harness.rundir import RunFolder

MakeRun = Callable[..., RunFolder]


def test_a_verdict_is_a_sentence_with_advice_and_the_evidence_under_it() -> None:
    (stage,) = health(Facts(run=run_json(), lock=lock(), health=[warning("ppo", "kl")]))
    (shown,) = stage.verdicts
    assert (stage.stage, stage.aligner, shown.level) == ("ppo", "ppo", "warning")
    assert shown.text == "Its KL is 12.5 nats per answer."
    assert shown.advice == "Raise kl_coef."
    assert shown.evidence == "`kl`, at step 20: 12.5. Healthy: kl is 10 nats per answer at most."


def test_rules_that_found_nothing_are_told_apart_from_those_that_could_not_judge(make_run: MakeRun) -> None:
    stages = {each.stage: each for each in health(read_facts(make_run()))}
    assert stages["ppo"].passed == "Nothing found by `entropy` and `skips`."
    assert stages["ppo"].unjudged == "Too little was logged or measured for `fluency` and `negative-kl`."
    assert [each.level for each in stages["ppo"].verdicts] == ["warning", "warning"]
    assert "from the evaluation" in stages["ppo"].verdicts[1].evidence
    assert set(stages) == {"dpo", "ppo"}


def test_warnings_are_counted_at_the_top_and_notes_are_not(make_run: MakeRun) -> None:
    facts = read_facts(make_run())
    assert warnings_in_words(facts) == "2 health warnings on `ppo`: see Health."
    assert warnings_in_words(Facts(run={}, lock={}, health=[warning("dpo", "x", level="note")])) is None


def test_the_page_has_the_section_and_says_that_it_is_an_audit(make_run: MakeRun) -> None:
    page = write_report(make_run()).read_text(encoding="utf-8")
    section = page.partition('<section id="health">')[2].partition("</section>")[0]
    assert "Its KL is 12.5 nats per answer. Raise kl_coef." in section
    assert "these are an audit" in section
    assert "2 health warnings on" in page.partition('<section id="health">')[0]


def test_a_run_without_rules_has_no_such_section(make_run: MakeRun) -> None:
    run = make_run()
    events = (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run.path / "events.jsonl").write_text("".join(line for line in events if '"health' not in line), encoding="utf-8")
    assert '<section id="health">' not in write_report(run).read_text(encoding="utf-8")


def test_a_stage_that_its_requirement_kept_from_training_is_shown_with_the_reason(make_run: MakeRun) -> None:
    reason = "requires reward accuracy: value >= 0.7, and it is 0.62, 95% interval 0.58 to 0.66, n = 300 on hh.valid"
    run = make_run(status="gated", stages={"ppo": {"status": "skipped", "reason": reason, "aligner": "ppo"}})
    page = write_report(run).read_text(encoding="utf-8")
    assert "ppo</code> skipped: requires reward accuracy: value &gt;= 0.7, and it is 0.62" in page
