"""Every hook has a docstring, and is called in one micro run with the arguments that its specification names."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import cli, hookspecs
from harness.components import StageContext
from harness.errors import PlanError, Problem, UsageError
from harness.plan import Plan
from harness.rundir import RunFolder
from harness.session import Session, open_session

HOOKS = {name: function for name, function in vars(hookspecs).items() if name.startswith("harness_")}
PLUGIN = '''
"""Implements every hook, notes its arguments, and leaves the work to the others."""

import click

import harness

calls = []


@harness.hookimpl
def harness_commands(cli):
    calls.append(("harness_commands", dict(cli=cli)))
    cli.add_command(click.Command("hello", callback=lambda: click.echo("hello from a plugin"), help="Say hello."))

'''
IMPLEMENTATION = """
@harness.hookimpl
def {name}({arguments}):
    calls.append(("{name}", dict({keywords})))
    return {result}

"""
RESULTS = {
    "harness_run_stage": "None",
    "harness_render_analysis": "None",
    "harness_report_sections": '[("Of a plugin", "<p>a section of its own</p>")]',
}
PLAN = """\
name: hooks
base: {type: tiny, hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 8, vocab_size: 300}
device: cpu
threads: 1
data:
  toy: {source: toy, pairs: 24, split: {train: 0.6, test: 0.4}}
stages:
  sft: {aligner: sft, init: base, data: toy.train, max_steps: 2, per_device_train_batch_size: 2, logging_steps: 1}
evaluate:
  baseline: base
  candidates: [sft]
  suites: {heldout: {data: toy.test, limit: 3}}
  generate: {max_new_tokens: 4}
  metrics: [length]
  bootstrap: {resamples: 100}
"""


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An installed plugin that implements every hook; its `calls` are (hook, arguments)."""
    site = tmp_path / "site"
    info = site / "hook_recorder-0.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hook-recorder\nVersion: 0.5\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[harness]\nrecorder = hook_recorder\n", encoding="utf-8")
    source = PLUGIN
    for name, function in HOOKS.items():
        if name != "harness_commands":
            arguments = list(inspect.signature(function).parameters)
            source += IMPLEMENTATION.format(
                name=name,
                arguments=", ".join(arguments),
                keywords=", ".join(f"{each}={each}" for each in arguments),
                result=RESULTS.get(name, "[]"),
            )
    (site / "hook_recorder.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    monkeypatch.delenv("HARNESS_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    monkeypatch.setattr(cli.cli, "commands", dict(cli.cli.commands))
    yield importlib.import_module("hook_recorder")
    sys.modules.pop("hook_recorder")


def seen(recorder: Any, hook: str) -> list[Mapping[str, Any]]:
    return [arguments for name, arguments in recorder.calls if name == hook]


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_every_hook_says_when_it_is_called(name: str) -> None:
    assert len(inspect.getdoc(HOOKS[name]) or "") > 30


@pytest.mark.torch
def test_every_hook_is_called_with_what_it_documents(recorder: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN, encoding="utf-8")
    arguments = ["run", str(plan), "--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    assert cli.cli.main(arguments, standalone_mode=False) == 0

    assert {name for name, _ in recorder.calls} == set(HOOKS) - {"harness_render_analysis"}
    assert seen(recorder, "harness_commands")[0]["cli"] is cli.cli
    assert isinstance(seen(recorder, "harness_configure")[0]["session"], Session)
    assert isinstance(seen(recorder, "harness_check_plan")[0]["plan"], Plan)
    (stage,) = seen(recorder, "harness_run_stage")
    assert stage["stage"].name == "sft"
    assert isinstance(stage["context"], StageContext)
    assert seen(recorder, "harness_stage_start") == [{"stage": "sft", "aligner": "sft"}]
    assert [each["step"] for each in seen(recorder, "harness_stage_log")] == [1, 2]
    assert all(each["total"] == 2 and "loss" in each["values"] for each in seen(recorder, "harness_stage_log"))
    (finish,) = seen(recorder, "harness_stage_finish")
    assert (finish["stage"], finish["status"]) == ("sft", "done")
    assert finish["seconds"] > 0
    (end,) = seen(recorder, "harness_run_finish")
    assert isinstance(end["run"], RunFolder)
    assert callable(end["say"])
    assert isinstance(seen(recorder, "harness_report_sections")[0]["run"], RunFolder)
    assert "a section of its own" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_plugins_command_is_listed_and_runs(recorder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cli.cli.main(["--help"], standalone_mode=False)
    assert "Say hello." in capsys.readouterr().out
    cli.cli.main(["hello"], standalone_mode=False)
    assert capsys.readouterr().out == "hello from a plugin\n"


def test_a_plugin_registered_late_is_still_configured() -> None:
    session = open_session()
    late = type("Late", (), {})()
    late.sessions = []

    @hookspecs.pluggy.HookimplMarker("harness")
    def harness_configure(session: Session) -> None:
        late.sessions.append(session)

    late.harness_configure = harness_configure
    session.plugins.manager.register(late)
    assert late.sessions == [session]


def test_a_problem_from_a_plugin_is_shown_with_the_plans_own(
    recorder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import harness

    @harness.hookimpl
    def harness_check_plan(plan: Plan) -> list[Problem]:
        return [Problem(0, "stages.sft", f"{plan.name}: not on a Friday", str(tmp_path / "plan.yaml"))]

    monkeypatch.setattr(recorder, "harness_check_plan", harness_check_plan)
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")
    with pytest.raises(PlanError, match=r"plan\.yaml: stages\.sft: hooks: not on a Friday"):
        cli.cli.main(["check", str(tmp_path / "plan.yaml")], standalone_mode=False)


def test_a_misspelt_hook_is_an_error_that_names_the_plugin(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import harness

    @harness.hookimpl
    def harness_aligner() -> list[Any]:
        return []

    monkeypatch.setattr(recorder, "harness_aligner", harness_aligner, raising=False)
    with pytest.raises(UsageError, match=r"plugin 'recorder'.*harness_aligner"):
        open_session()


def test_no_plugin_leaves_one_out(recorder: Any) -> None:
    names = {plugin.name for plugin in open_session(["recorder"]).plugins.found}
    assert "aligners" in names
    assert "recorder" not in names
    with pytest.raises(UsageError, match="no such plugin"):
        open_session(["nobody"])


def test_autoload_can_be_switched_off(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "recorder" in {plugin.name for plugin in open_session().plugins.found}
    monkeypatch.setenv("HARNESS_DISABLE_PLUGIN_AUTOLOAD", "1")
    assert "recorder" not in {plugin.name for plugin in open_session().plugins.found}


def test_the_page_of_an_analysis_is_asked_of_every_plugin_first(recorder: Any, tmp_path: Path) -> None:
    line = '{"prompt_id": "p", "candidate": "dpo", "baseline": "sft", "preference": 1}'
    (tmp_path / "lines.jsonl").write_text(line, encoding="utf-8")
    arguments = ["analyze", str(tmp_path / "lines.jsonl"), "-o", str(tmp_path / "page.html")]
    cli.cli.main(arguments, standalone_mode=False)
    (asked,) = seen(recorder, "harness_render_analysis")
    assert asked["analysis"]["counts"][0]["wins"] == 1
    assert (
        (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    )  # the built-in one, tried last
