"""`harness plugins check`: what a package adds is used in a run, and what is wrong with it is told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from micro import harness, install_plugin

UNTRIED = """
import harness
from pydantic import Field


class Needy(harness.Judge):
    name = "needy"

    class Config(harness.Options):
        key: str = Field(description="what it cannot do without")


class Talker(harness.Aligner):
    name = "talker"
    takes = {"init": "model", "data": "conversations"}


class Nothing(harness.Source):
    name = "nothing"


class Harm(harness.Metric):
    name = "harm"
    scope = "harm"
    measures = (harness.Measure(name="harm", unit="share of answers"),)


@harness.hookimpl
def harness_judges():
    return [Needy]


@harness.hookimpl
def harness_aligners():
    return [Talker]


@harness.hookimpl
def harness_sources():
    return [Nothing]


@harness.hookimpl
def harness_metrics():
    return [Harm]
"""
UNSTEADY = """
import random

import harness


class Unsteady(harness.Aligner):
    name = "unsteady"
    takes = {"init": "model", "reward": "reward-model"}

    def run(self, config, inputs, context):
        import torch
        from harness.engine.models import load_policy, save_model

        model, tokenizer = load_policy(inputs["init"].path, context.compute)
        with torch.no_grad():
            model.get_input_embeddings().weight.add_(random.random())
        save_model(model, tokenizer, context.output)


class Constant(harness.Judge):
    name = "first"

    def compare(self, pairs, config, inputs, context):
        return [harness.Verdict(1.0) if pair.candidate else harness.Verdict(None, "empty") for pair in pairs]


@harness.hookimpl
def harness_aligners():
    return [Unsteady]


@harness.hookimpl
def harness_judges():
    return [Constant]
"""
DRIFTING = """
import time

import harness
from pydantic import Field


class Drifting(harness.ScoringJudge):
    name = "drifting"

    class Config(harness.Options):
        since: float = Field(default_factory=time.time)

    def score(self, prompts, answers, config, inputs, context):
        return [None for _ in answers]


@harness.hookimpl
def harness_judges():
    return [Drifting]
"""
FAILING = """
import harness


class Failing(harness.Metric):
    name = "failing"
    measures = (harness.Measure(name="failing", unit="share of answers"),)

    def observe(self, evidence, config):
        raise ZeroDivisionError("no answer counts")


@harness.hookimpl
def harness_metrics():
    return [Failing]
"""


def check(site: Path, package: str, *before: str) -> subprocess.CompletedProcess[str]:
    return harness(site, *before, "plugins", "check", package, PYTHONPATH=str(site))


@pytest.mark.torch
def test_new_plugins_of_every_kind_pass_and_what_is_not_tried_is_told(tmp_path: Path) -> None:
    points = ["untried = untried"]
    (tmp_path / "untried.py").write_text(UNTRIED, encoding="utf-8")
    for kind in ("aligner", "judge", "metric"):
        assert harness(tmp_path, "plugins", "new", f"own-{kind}", "--kind", kind).returncode == 0
        module = f"harness_own_{kind}"
        (tmp_path / f"harness-own-{kind}" / f"{module}.py").rename(tmp_path / f"{module}.py")
        points.append(f"own-{kind} = {module}")
    info = tmp_path / "all_kinds-2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: all-kinds\nVersion: 2\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[harness]\n" + "\n".join(points), encoding="utf-8")
    done = check(tmp_path, "All_Kinds")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "all-kinds 2",
        "  plugin own-aligner (harness_own_aligner): harness_aligners",
        "  plugin own-judge (harness_own_judge): harness_judges",
        "  plugin own-metric (harness_own_metric): harness_metrics",
        "  plugin untried (untried): harness_aligners, harness_judges, harness_metrics, harness_sources",
        "  aligner own-aligner: trained for 4 steps",
        "  judge own-judge: judged 12 of 12 pairs",
        "  metric own-metric: observed own-metric 24 times",
        "  once more, each step in a process of its own: the same models, answers and numbers",
        "  aligner talker: not tried, nothing in the toy world fits its slot `data`",
        "  judge needy: not tried, the option `key` has no default",
        "  metric harm: not tried, it needs a judge of harm, which the toy world has not",
        "  source nothing: not tried, a source is tried by a plan that reads with it",
    ]


@pytest.mark.slow
@pytest.mark.torch
def test_what_is_built_in_passes(tmp_path: Path) -> None:
    done = check(tmp_path, "alignment-harness")
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        *(f"  aligner {name}: trained for 4 steps\n" for name in ("dpo", "ppo", "reward", "sft")),
        "  backend transformers: used in the run\n",
        "  judge reward-model: judged 36 of 36 pairs",
        "  once more, each step in a process of its own: the same models, answers and numbers\n",
    ):
        assert line in done.stdout


@pytest.mark.torch
def test_training_that_draws_without_the_seed_is_found_and_a_blind_judge_is_told(tmp_path: Path) -> None:
    install_plugin(tmp_path, "unsteady", UNSTEADY)
    done = check(tmp_path, "unsteady")
    assert done.returncode == 1
    assert "problem: unsteady: a second run of one plan wrote another model.safetensors; draw from the seed" in done.stdout
    assert "the same models" not in done.stdout
    (line,) = (each for each in done.stdout.splitlines() if each.startswith("  judge first: judged 12 of 12 pairs; "))
    assert "prefers one of two identical answers (canary-identical)" in line


@pytest.mark.torch
def test_an_option_that_is_another_each_time_is_found_and_what_is_unscored_is_told(tmp_path: Path) -> None:
    install_plugin(tmp_path, "drifting", DRIFTING)
    install_plugin(tmp_path, "misspelt", "import harness\n\n\n@harness.hookimpl\ndef harness_judgs():\n    return []\n")
    assert "misspelt" in check(tmp_path, "drifting").stderr
    done = check(tmp_path, "drifting", "--no-plugin", "misspelt")
    assert done.returncode == 1
    assert "  judge drifting: judged 0 of 12 pairs; unscored: " in done.stdout
    assert "problem: scores/drifting/base/heldout has another key in a second run of one plan; " in done.stdout


@pytest.mark.torch
def test_an_exception_ends_the_trial_with_what_the_run_said(tmp_path: Path) -> None:
    install_plugin(tmp_path, "failing", FAILING)
    done = check(tmp_path, "failing")
    assert done.returncode == 1
    assert "problem: a run with it ended with status 1:\n" in done.stdout
    assert 'failing.py", line 10, in observe' in done.stdout
    assert "ZeroDivisionError: no answer counts" in done.stdout
    assert not done.stderr


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nonsense_that_is_not_there", "broken could not be loaded: ModuleNotFoundError: No module named 'nonsense"),
        ("import scipy", "broken has no function with the name of a hook behind @harness.hookimpl, so it adds nothing"),
        ("import scipy", "broken imports scipy as it is loaded, which every command waits for; import inside of `run`"),
    ],
)
def test_what_is_wrong_with_a_module_is_told_without_a_run(source: str, said: str, tmp_path: Path) -> None:
    install_plugin(tmp_path, "broken", source)
    done = check(tmp_path, "broken")
    assert done.returncode == 1
    assert f"problem: {said}" in done.stdout
    assert done.stdout.partition("problem")[0] == "broken 1\n  plugin broken (broken): no hook\n"
    assert not done.stderr


@pytest.mark.parametrize(
    ("before", "package", "said"),
    [
        ((), "unstaedy", "no package 'unstaedy' is installed; did you mean \"unsteady\"?"),
        ((), ".", ". is a folder: install it with pip install -e ., and give the package's name"),
        ((), "pluggy", 'pluggy: has no entry point in the group "harness"; docs/plugins.md shows one'),
        (
            ("--no-plugin", "unsteady"),
            "unsteady",
            "unsteady: its plugins are left out, or it has none; left out: unsteady",
        ),
    ],
)
def test_what_is_no_package_with_plugins_is_refused(
    before: tuple[str, ...], package: str, said: str, tmp_path: Path
) -> None:
    install_plugin(tmp_path, "unsteady", UNSTEADY)
    done = check(tmp_path, package, *before)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{said}\n")
