"""The page: one file, nothing from outside, nothing untrusted unescaped, whole even for a run that failed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import EVIL, estimate, lock, run_json, win_rate
from harness_reports import harness_configure, harness_run_finish, sections
from harness_reports.facts import Facts
from harness_reports.pictures import win_rates
from harness_reports.render import prose, write_report

from harness.errors import UsageError
from harness.records import Judgement, Observation, Score, Usage, read_records, write_records
from harness.rundir import RunFolder

MakeRun = Callable[..., RunFolder]
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page, its text, and whether its tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())


def page_of(run: RunFolder) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_nothing_that_a_model_wrote_becomes_markup(make_run: MakeRun) -> None:
    page = page_of(make_run())
    tags = {tag for tag, _ in page.elements}
    attributes = {name for _, attrs in page.elements for name in attrs}
    assert not tags & {"script", "img", "b", "link", "iframe", "object", "base", "foreignobject", "image"}
    assert not [name for name in attributes if name.startswith("on")]
    assert page.open == []
    assert page.text.count(" ".join(EVIL.split())) > 30


def test_hostile_names_are_escaped_inside_charts(make_run: MakeRun) -> None:
    found = [estimate("dpo" + EVIL, "win-rate", 0.6, 0.5, 0.7, suite="s" + EVIL, judge="j" + EVIL, baseline="sft")]
    run = make_run(found)
    page = page_of(run)
    assert not {"script", "img", "b"} & {tag for tag, _ in page.elements}
    assert page.open == []


def test_no_request_to_anywhere(make_run: MakeRun) -> None:
    page = page_of(make_run())
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith("#")
        assert "http" not in (attributes.get("style") or "")
    html = (make_run().path / "report.html").read_text(encoding="utf-8")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_ids_are_unique_and_every_reference_has_its_target(make_run: MakeRun) -> None:
    page = page_of(make_run())
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    used = {attrs["href"] for _, attrs in page.elements if attrs.get("href")}
    used |= {match for _, attrs in page.elements for match in re.findall(r"url\((#[^)]+)\)", attrs.get("clip-path") or "")}
    assert used
    assert used <= {f"#{each}" for each in ids}


def test_charts_have_a_title_and_a_description(make_run: MakeRun) -> None:
    page = page_of(make_run())
    charts = [attrs for tag, attrs in page.elements if tag == "svg"]
    ids = {attrs.get("id") for _, attrs in page.elements}
    assert len(charts) > 5
    for chart in charts:
        assert chart["role"] == "img"
        assert {chart["aria-labelledby"], chart["aria-describedby"]} <= ids


def test_same_folder_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    assert write_report(run, tmp_path / "a.html").read_bytes() == write_report(run, tmp_path / "b.html").read_bytes()


def test_every_metric_is_in_the_table_even_an_unknown_one(make_run: MakeRun) -> None:
    text = page_of(make_run()).text
    assert "a-metric-nobody-knows" in text
    assert "12 [11, 13]" in text
    assert "+31 [12, 50] vs sft" in text


def test_gates_show_what_was_measured(make_run: MakeRun) -> None:
    text = page_of(make_run()).text
    assert "pass 68 % [61, 74]" in text
    assert "dpo length: value <= 9 missing no such estimate, or several" in text


def test_correlation_with_the_truth_is_shown_with_the_reward_model(make_run: MakeRun) -> None:
    assert "Rank correlation with truth on the answers to heldout 0.80 [0.70, 0.86]" in page_of(make_run()).text


def test_cost_of_the_evaluation_is_summed_by_kind(make_run: MakeRun) -> None:
    """12.5 s for one model and 10.5 s for the other."""
    assert "evaluation: samples, 2 steps – – 23 s" in page_of(make_run()).text


def test_what_a_judge_cost_stands_apart_from_the_run(make_run: MakeRun) -> None:
    """Judgements of 30 and 31 cents with two replies each; 12 of their calls were made in this run."""
    run = make_run(judges={"truth": {"calls": 12, "dollars": 0.5}})
    usage = Usage(model="judge", replies=2, input_tokens=100, output_tokens=5, input_price=3.0, output_price=15.0)
    path = run.path / "judgements/truth/dpo--sft/heldout.jsonl"
    judged = [each.model_copy(update={"usage": None, "cost": None}) for each in read_records(path, Judgement)]
    for place, cost in enumerate((0.30, 0.31)):
        judged[place] = judged[place].model_copy(update={"usage": usage, "cost": cost})
    write_records(path, judged)
    expected = "Judge truth : 12 calls in this run, $0.50; what it judged rests on 4 replies, $0.61 when they were asked."
    assert expected in page_of(run).text
    assert "calls in this run" not in page_of(make_run()).text


def test_what_a_judge_of_harm_cost_is_told_too(make_run: MakeRun) -> None:
    """Five answers were judged with two replies of 10 cents each."""
    run = make_run(judges={"strict": {"calls": 10, "dollars": 1.0}})
    usage = Usage(model="judge", replies=2)
    scores = [
        Score(prompt_id=f"p{n}", suite="heldout", judge="strict", model="dpo", score=0.5, cost=0.2, usage=usage)
        for n in range(5)
    ]
    write_records(run.path / "harm/strict/dpo/heldout.jsonl", scores)
    expected = "Judge strict : 10 calls in this run, $1.00; what it judged rests on 10 replies, $1.00 when they were asked."
    assert expected in page_of(run).text


def test_policies_and_reward_models_have_tables_of_their_own(make_run: MakeRun) -> None:
    text = page_of(make_run()).text
    assert "Suite heldout Metric dpo ppo win-rate" in text
    assert "Reward models on hh.valid Metric reward referee accuracy" in text


def test_a_win_rate_for_lengths_that_hardly_occur_is_called_an_extrapolation(make_run: MakeRun) -> None:
    def observed(model: str, difference: float) -> list[Observation]:
        return [
            Observation(prompt_id=str(n), root=str(n), suite="heldout", model=model, metric="length-controlled-win-rate",
                        judge="truth", baseline="sft", value=0.5, covariates=(difference if n else -difference,))
            for n in range(30)
        ]  # fmt: skip

    found = [
        estimate(model, "length-controlled-win-rate", 0.6, 0.5, 0.7, judge="truth", baseline="sft")
        for model in ("dpo", "ppo")
    ]
    run = make_run(found)
    both = [
        *observed("dpo", 90.0),
        *(o.model_copy(update={"covariates": (n - 15.0,)}) for n, o in enumerate(observed("ppo", 1.0))),
        *(o.model_copy(update={"baseline": "dpo"}) for o in observed("ppo", 90.0)),
    ]
    write_records(run.path / "observations.jsonl", both)
    text = page_of(run).text
    assert "Nearly all answers of dpo on heldout are longer than the baseline's" in text
    assert "answers of ppo" not in text


def test_the_chart_of_win_rates_is_of_those_against_the_baseline() -> None:
    found = (win_rate("ppo", 0.64, 0.57, 0.70), win_rate("ppo", 0.40, 0.33, 0.47, baseline="dpo", level=0.9))
    for estimates in (found, found[::-1]):
        picture = win_rates(Facts(run=run_json(), lock=lock(), estimates=estimates))
        assert picture is not None
        assert '<desc id="win-rates-desc">ppo · truth · heldout: 64\u00a0% [57, 70]</desc>' in picture.svg
        assert picture.caption.startswith("Win rates against `sft`, with 95\u00a0% intervals")


def test_a_failed_run_says_so_first(make_run: MakeRun) -> None:
    stages = {
        "sft": {"status": "done", "seconds": 1.0},
        "dpo": {"status": "failed", "reason": "out of memory " + EVIL},
        "ppo": {"status": "skipped", "reason": "reward failed"},
    }
    run = make_run(status="failed", stages=stages, error="StageError: it broke")
    for name in ("metrics.json", "observations.jsonl", "plan.lock.json"):
        (run.path / name).unlink()
    page = page_of(run)
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    failure, verdict = page.text.index("dpo failed: out of memory"), page.text.index("No verdict")
    assert page.text.index("StageError: it broke") < failure < verdict
    assert "ppo skipped: reward failed" in page.text


def test_a_run_that_only_began(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"name": "x", "status": "running"}', encoding="utf-8")
    assert "Still running" in page_of(RunFolder(tmp_path)).text


def test_a_damaged_folder_is_a_usage_error(make_run: MakeRun) -> None:
    run = make_run()
    (run.path / "metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match=r"metrics\.json"):
        write_report(run)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("x", "not valid JSON"),
        ("[]", "not an event as a run writes it"),
        ('{"event": "scalars", "stage": "dpo", "step": 1, "values": 3}', "not an event as a run writes it"),
        ('{"event": "scalars", "stage": "dpo", "step": 1, "values": {"loss": "x"}}', "not an event as a run writes it"),
        ('{"event": "health", "stage": "dpo"}', "not an event as a run writes it"),
        ('{"event": "health_checked", "stage": "dpo"}', "not an event as a run writes it"),
    ],
)
def test_a_damaged_event_is_named_with_its_line(make_run: MakeRun, line: str, says: str) -> None:
    path = make_run().path / "events.jsonl"
    first, second, *rest = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([first, second, line, *rest]) + "\n", encoding="utf-8")
    with pytest.raises(UsageError) as told:
        write_report(RunFolder(path.parent))
    assert str(told.value) == f"{path}:3: {says}; the run folder is damaged, run the plan again"


@pytest.mark.parametrize("metrics", ['{"estimates": 3}', '{"estimates": [{}]}', '{"estimates": [], "slices": [1]}'])
def test_metrics_of_another_shape_are_a_usage_error(make_run: MakeRun, metrics: str) -> None:
    run = make_run()
    (run.path / "metrics.json").write_text(metrics, encoding="utf-8")
    with pytest.raises(UsageError, match=r"metrics\.json: \w+: not as a run writes it; the run folder is damaged"):
        write_report(run)


def test_a_record_that_is_not_utf_8_is_a_usage_error(make_run: MakeRun) -> None:
    run = make_run()
    (run.path / "observations.jsonl").write_bytes(b'{"\xff": 1}\n')
    with pytest.raises(UsageError, match=r"observations\.jsonl:1: "):
        write_report(run)


def test_a_run_that_lost_its_metrics_says_so(make_run: MakeRun) -> None:
    run = make_run(evaluation={"estimates": {"status": "done", "seconds": 1.0}})
    assert "metrics.json is missing" not in page_of(run).text
    (run.path / "metrics.json").unlink()
    text = page_of(run).text
    assert "metrics.json is missing: the run made its estimates" in text
    assert "No verdict" not in text


def test_a_run_that_measured_nothing_has_lost_nothing(make_run: MakeRun) -> None:
    run = make_run(evaluation={})
    (run.path / "metrics.json").unlink()
    text = page_of(run).text
    assert "metrics.json is missing" not in text
    assert "No verdict" in text


def test_failure_cases_are_counted(make_run: MakeRun) -> None:
    text = page_of(make_run()).text
    assert "dpo heldout Empty 1 of 30" in text
    assert "dpo heldout Cut off at the length limit 1 of 30" in text
    assert "ppo heldout Mostly repeats itself 1 of 1" in text


def test_a_failure_is_counted_among_the_answers_that_could_have_failed_so(make_run: MakeRun) -> None:
    """24 of the 30 prompts ask for an answer, and three of these were refused."""
    run = make_run()
    seen = [
        Observation(
            prompt_id=f"p{n}", root=f"p{n}", suite="heldout", model="dpo", metric="over-refusal", value=float(n < 3)
        )
        for n in range(24)
    ]  # fmt: skip
    write_records(run.path / "observations.jsonl", seen)
    assert "dpo heldout Refuses what should be answered 3 of 24" in page_of(run).text


def test_sections_of_other_plugins(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "_hooks", [])
    hook = SimpleNamespace(harness_report_sections=lambda **_: [[("Mine <b>", "<p class='mine'>hello</p>")], []])
    harness_configure(SimpleNamespace(plugins=SimpleNamespace(hook=hook)))
    page = page_of(make_run())
    assert ("p", {"class": "mine"}) in page.elements
    assert "Mine <b>" in page.text


def test_the_hook_writes_the_report_and_says_its_verdict_and_where(make_run: MakeRun) -> None:
    run, said = make_run(), []
    harness_run_finish(run, said.append)
    *claims, where = said
    assert where == f"report: {run.report_path}"
    assert claims[0] == (
        "DPO beats SFT: its win rate is 68 % (95 % interval 61–74 %, judged by `truth` on `heldout`, 200 prompts)."
    )
    assert run.report_path.is_file()


def report_command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `report` where importing torch raises."""
    program = (
        "import sys; sys.modules['torch'] = None; import click, harness_reports; "
        "cli = click.Group(); harness_reports.harness_commands(cli); cli()"
    )
    command = [sys.executable, "-c", program, "report", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_report_command_needs_no_torch(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    done = report_command("latest", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / done.stdout.strip()).samefile(run.report_path)


def test_report_command_writes_elsewhere(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    done = report_command(str(run.path), "-o", "mine.html", folder=tmp_path)
    assert done.stdout == "mine.html\n"
    assert (tmp_path / "mine.html").is_file()
    assert not run.report_path.exists()


@pytest.mark.parametrize("name", ["plan.yaml", "samples/new.jsonl"])
def test_report_command_overwrites_no_record_of_the_run(make_run: MakeRun, tmp_path: Path, name: str) -> None:
    run = make_run()
    path = run.path / name
    before = path.read_bytes() if path.exists() else None
    done = report_command(str(run.path), "-o", str(path), folder=tmp_path)
    assert "UsageError: " in done.stderr  # one line at the command line proper, which is left out here
    assert f"-o {path}: the run folder keeps its records there; choose another name, one that ends in .html" in done.stderr
    assert (path.read_bytes() if path.exists() else None) == before
    assert report_command(str(run.path), "-o", str(run.path / "second.html"), folder=tmp_path).returncode == 0


def test_a_report_that_cannot_be_written_is_a_usage_error(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(UsageError, match=r"harness report RUN -o FILE"):
        write_report(make_run(), tmp_path / "file" / "report.html")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("by `a`.", "by <code>a</code>."),
        ("`<i>` & b", "<code>&lt;i&gt;</code> &amp; b"),
        ("one ` only <i>", "one ` only &lt;i&gt;"),
    ],
)
def test_prose_marks_code_and_escapes(text: str, expected: str) -> None:
    assert prose(text) == expected
