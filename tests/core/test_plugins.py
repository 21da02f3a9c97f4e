"""Finding plugins: real distributions in a folder on the path, good and broken ones."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.plugins import load_plugins

GOOD = """
import harness
class Shout(harness.Judge):
    '''Prefers the louder answer.'''
    name = {name!r}
@harness.hookimpl
def harness_judges():
    return [Shout]
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Install a distribution of one module, whose plugin has the module's name."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    names = []

    def installed(name: str, source: str) -> None:
        (site / f"{name}.py").write_text(source, encoding="utf-8")
        folder = site / f"{name}_dist-1.5.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: 1.5\n", encoding="utf-8")
        (folder / "entry_points.txt").write_text(f"[harness]\n{name} = {name}\n", encoding="utf-8")
        names.append(name)

    yield installed
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    from harness.cli import cli, main

    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(cli, "commands", {})  # what plugins added stays for the life of a process
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        said = capsys.readouterr()
        return int(exit_.value.code or 0), said.out, said.err

    yield run
    signal.signal(signal.SIGTERM, before)


def test_a_plugin_brings_its_components(install: Callable[[str, str], None]) -> None:
    install("louder", GOOD.format(name="shout"))
    registry = load_plugins().registry()
    entry = registry.get("judge", "shout")
    assert entry is not None
    assert (entry.plugin.name, entry.plugin.distribution, entry.plugin.version) == ("louder", "louder-dist", "1.5")
    assert "dpo" in registry.names("aligner")


def test_a_name_taken_twice_names_both_plugins(install: Callable[[str, str], None]) -> None:
    install("louder", GOOD.format(name="shout"))
    install("noisier", GOOD.format(name="shout"))
    with pytest.raises(UsageError, match=r"judge 'shout' is defined by plugin .*--no-plugin NAME") as caught:
        load_plugins().registry()
    assert "'louder'" in str(caught.value)
    assert "'noisier'" in str(caught.value)
    assert load_plugins(["noisier"]).registry().get("judge", "shout") is not None


def test_the_name_of_a_built_in_component_is_taken(install: Callable[[str, str], None]) -> None:
    install("louder", GOOD.format(name="toy-truth"))
    with pytest.raises(UsageError, match=r"by plugin 'judges' \(harness_plugins.judges\) and by 'louder' \(louder\)"):
        load_plugins().registry()


METHODS = """
import harness
class Odd(harness.{base}):
    name = "odd"
    {method}
        return []
@harness.hookimpl
def harness_{kind}s():
    return [Odd]
"""


@pytest.mark.parametrize(
    ("kind", "base", "method", "expected"),
    [
        ("judge", "Judge", "def compare(self, prompt, candidate):", "compare(self, pairs, config, inputs, context)"),
        ("judge", "Judge", "def compare(self, pairs, *, config, inputs, context):", "compare(self, pairs, config, inputs, context)"),
        ("judge", "ScoringJudge", "def score(prompts, answers, config, inputs, context):", "score(self, prompts, answers, config, inputs, context)"),
        ("judge", "ScoringJudge", "def forecast(self, config):", "forecast(self, config, folder, workload)"),
        ("judge", "Judge", "@staticmethod\n    def caution(self, config):", "caution(self, config)"),
        ("judge", "Judge", "compare = 0\n    def rest(self):", "compare(self, pairs, config, inputs, context)"),
        ("aligner", "Aligner", "def run(self, config, inputs):", "run(self, config, inputs, context)"),
        ("metric", "Metric", "def observe(self, evidence):", "observe(self, evidence, config)"),
        ("source", "Source", "def load(self, path, folder, split):", "load(self, config, folder)"),
        ("backend", "Backend", "def generate(self, model, prompts):", "generate(self, model, prompts, options, seeds, compute)"),
    ],
)  # fmt: skip
def test_a_method_that_cannot_be_called_is_an_error_before_anything_runs(
    install: Callable[[str, str], None],
    command: Callable[..., tuple[int, str, str]],
    kind: str,
    base: str,
    method: str,
    expected: str,
) -> None:
    install("louder", METHODS.format(kind=kind, base=base, method=method))
    name = expected.partition("(")[0]
    home = "Judge" if name == "forecast" else base
    status, _, err = command("check", "quickstart")
    assert status == 2
    assert err == (
        f"plugin 'louder' (louder): Odd.{name} cannot be called as it will be; expected {expected}, as harness.{home} has it; "
        "mend it, or leave it out with --no-plugin louder\n"
    )
    assert command("--no-plugin", "louder", "plugins")[0] == 0


@pytest.mark.parametrize(
    "method",
    [
        "def compare(self, these, *rest):",
        "def compare(self, pairs, config, inputs, context, again=False):",
        "@classmethod\n    def compare(cls, pairs, config, inputs, context):",
        "@staticmethod\n    def compare(pairs, config, inputs, context):",
        "def helper(self):",
    ],
)
def test_a_method_may_take_what_it_is_given_in_its_own_way(install: Callable[[str, str], None], method: str) -> None:
    install("louder", METHODS.format(kind="judge", base="Judge", method=method))
    assert load_plugins().registry().get("judge", "odd") is not None


def test_a_misspelt_hook_is_an_error(install: Callable[[str, str], None]) -> None:
    install("louder", "import harness\n@harness.hookimpl\ndef harness_judge():\n    return []\n")
    with pytest.raises(UsageError, match=r"plugin 'louder'.*harness_judge.*see harness.hookspecs"):
        load_plugins()


def test_a_hook_with_an_unknown_argument_is_a_broken_plugin(install: Callable[[str, str], None]) -> None:
    install("louder", "import harness\n@harness.hookimpl\ndef harness_judges(planet):\n    return []\n")
    (broken,) = load_plugins().broken
    assert broken.name == "louder"
    assert "planet" in str(broken.error)


@pytest.mark.parametrize("source", ["import no_such_module_anywhere", "1 / 0", "def broken(:"])
def test_a_plugin_that_fails_to_import_is_named_and_the_others_work(
    install: Callable[[str, str], None], source: str
) -> None:
    install("louder", source)
    plugins = load_plugins()
    (broken,) = plugins.broken
    assert (broken.name, broken.version) == ("louder", "1.5")
    assert broken.error is not None
    assert "dpo" in plugins.registry().names("aligner")


def test_a_broken_plugin_stops_only_a_plan_that_needs_it(
    install: Callable[[str, str], None], command: Callable[..., tuple[int, str, str]]
) -> None:
    install("louder", "import no_such_module_anywhere")
    cause = "plugin 'louder' (louder-dist 1.5) could not be loaded: ModuleNotFoundError: No module named 'no_such_module_anywhere'"
    settings = ["--set", "data.toy.pairs=200"]
    status, _, err = command("check", "quickstart", *settings)
    assert status == 0
    assert f"warning: {cause}; the plan does not need it" in err
    status, _, err = command("check", "quickstart", *settings, "--set", "evaluate.judges.truth.judge=shout")
    assert status == 2
    assert "unknown judge 'shout'" in err
    assert "plugin 'louder' could not be loaded" in err
    status, out, err = command("plugins")
    assert status == 0
    assert "dpo" in out
    assert cause in err


def test_a_plugin_can_be_left_out(
    install: Callable[[str, str], None], command: Callable[..., tuple[int, str, str]]
) -> None:
    install("louder", GOOD.format(name="shout"))
    assert "shout" in command("plugins")[1]
    assert "shout" not in command("--no-plugin", "louder", "plugins")[1]
    status, _, err = command("--no-plugin", "loudr", "plugins")
    assert status == 2
    assert (
        "--no-plugin loudr: no such plugin; there are aligners, backends, health, judges, louder, metrics, report, sources"
        in err
    )


def test_help_leaves_a_plugin_out_too(
    install: Callable[[str, str], None], command: Callable[..., tuple[int, str, str]]
) -> None:
    install(
        "louder",
        "import click, harness\n@harness.hookimpl\ndef harness_commands(cli):\n    cli.command('shout')(lambda: None)\n",
    )
    assert "shout" in command("--help")[1]
    assert "shout" not in command("--no-plugin", "louder", "--help")[1]


@pytest.mark.parametrize(("value", "loaded"), [("1", False), ("yes", False), ("0", True), ("", True)])
def test_only_built_in_plugins_load_where_the_environment_says_so(
    install: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch, value: str, loaded: bool
) -> None:
    install("louder", GOOD.format(name="shout"))
    monkeypatch.setenv("HARNESS_DISABLE_PLUGIN_AUTOLOAD", value)
    registry = load_plugins().registry()
    assert (registry.get("judge", "shout") is not None) is loaded
    assert registry.get("judge", "toy-truth") is not None


def test_a_plugin_may_find_problems_of_a_plan(
    install: Callable[[str, str], None], command: Callable[..., tuple[int, str, str]]
) -> None:
    install(
        "louder",
        "import harness\nfrom harness.errors import Problem\n@harness.hookimpl\n"
        "def harness_check_plan(plan):\n    return [Problem(0, 'stages.dpo.beta', 'too quiet')]\n",
    )
    Path("plan.yaml").write_text(
        "name: x\nbase: {type: tiny}\ndata:\n  toy: {source: toy, pairs: 10}\n"
        "stages:\n  dpo:\n    aligner: dpo\n    init: base\n    data: toy\n    beta: 0.1\n",
        encoding="utf-8",
    )
    status, _, err = command("check", "plan.yaml")
    assert (status, err) == (2, "plan.yaml:10: stages.dpo.beta: too quiet\n")
