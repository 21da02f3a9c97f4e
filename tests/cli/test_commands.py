"""The command line around the plans: help, init, plugins, schema."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import cli
from harness.cli.models import find_model, read_json_line, run_compute
from harness.errors import UsageError
from harness.rundir import RunFolder, find_run
from harness.store import MARKER

HEAVY = (
    "torch",
    "transformers",
    "trl",
    "datasets",
    "numpy",
    "scipy",
    "matplotlib",
    "pyarrow",
    "pydantic",
    "ruamel",
    "jinja2",
)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from harness.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as exit: assert not exit.code\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert {line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line} >= {
        "run",
        "check",
        "report",
    }
    imported = {name.partition(".")[0] for name in done.stderr.split()}
    assert "click" in imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "None"),
    ],
)
def test_waiting_threads_soon_sleep_unless_the_user_has_said_otherwise(given: dict[str, str], expected: str) -> None:
    code = (
        "import os; from harness.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_WAIT"))}
    done = subprocess.run([sys.executable, "-c", code], env=kept | given, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == expected


def test_check_imports_no_torch(tmp_path: Path, plan_text: str) -> None:
    (tmp_path / "plan.yaml").write_text(plan_text.replace("beta: 0.1", "betta: 0.1"), encoding="utf-8")
    code = (
        "import sys; from harness.cli import main\n"
        "try: main(['check', 'plan.yaml'])\n"
        "except SystemExit as exit: assert exit.code == 2\n"
        "print('\\n'.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path
    )
    assert {"torch", "transformers", "trl", "scipy", "matplotlib"}.isdisjoint(done.stdout.split())


def test_every_command_has_help(command: Callable[..., Any]) -> None:
    from harness.cli import COMMANDS

    for name in COMMANDS:
        outcome = command(name, "--help")
        assert outcome.status == 0
        assert outcome.out.startswith("Usage: ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("chek",), "No such command 'chek'"),
        (("check",), "Missing argument 'PLAN'"),
        (("check", "x", "--sett", "a=1"), "No such option"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(command: Callable[..., Any], arguments: tuple[str, ...], text: str) -> None:
    outcome = command(*arguments)
    assert outcome.status == 2
    assert text in outcome.err


@pytest.mark.parametrize(("flags", "warned"), [("fpu avx2 fma", 1), ("fpu avx2 avx512_bf16", 0)])
def test_check_warns_of_bf16_that_the_processor_would_imitate(
    command: Callable[..., Any], plan_text: str, monkeypatch: pytest.MonkeyPatch, flags: str, warned: int
) -> None:
    Path("plan.yaml").write_text(f"device: cpu\nprecision: bf16\n{plan_text}", encoding="utf-8")
    Path("more.jsonl").write_text('{"prompt": "Hello"}\n', encoding="utf-8")
    Path("cpuinfo").write_text(f"flags\t: {flags}\n", encoding="utf-8")
    monkeypatch.setattr("harness.compute.CPU_INFO", Path("cpuinfo"))
    outcome = command("check", "plan.yaml")
    assert outcome.status == 0
    assert outcome.err.count("warning: precision: bf16: this processor has no bf16 matrix products") == warned


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--temperature", "nan", "nan is not a finite number"),
        ("--temperature", "inf", "inf is not a finite number"),
        ("--temperature", "-1", "-1.0 is not in the range"),
        ("--seed", "-1", "-1 is not in the range"),
        ("--seed", str(2**70), "is not in the range"),
        ("--max-new-tokens", "0", "0 is not in the range"),
        ("--max-new-tokens", str(10**15), "is not in the range"),
    ],
)
def test_ask_refuses_numbers_that_mean_nothing(command: Callable[..., Any], option: str, value: str, text: str) -> None:
    outcome = command("ask", "run", "hi", option, value)
    assert outcome.status == 2
    assert f"Invalid value for '{option}'" in outcome.err
    assert text in outcome.err


def test_ask_says_that_a_run_has_no_model_to_ask(command: Callable[..., Any]) -> None:
    Path("run").mkdir()
    Path("run/run.json").write_text('{"stages": {"base": {"status": "failed", "key": ""}}}')
    Path("run/plan.lock.json").write_text('{"stages": {}}')
    outcome = command("ask", "run", "hi")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == "run: this run trained no model; run its plan again\n"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "rows.jsonl: is empty; expected JSON lines"),
        (b"\n \n", "rows.jsonl: is empty; expected JSON lines"),
        (b'{"prompt": "\xff", "answer": ""}', "rows.jsonl: not UTF-8"),
        (b'{"prompt": [], "answer": ""}', "rows.jsonl: row 1: prompt: expected text or chat messages"),
        (
            b'{"prompt": "a", "answer": "b"}\n{"instruction": "a", "output": "b"}',
            'rows.jsonl:2: expected {"prompt": \u2026, "answer": \u2026}; this line has "instruction", "output"',
        ),
        (b"{}", "; this line has no field"),
        (b"[1]", "; this line has no object"),
    ],
)
def test_score_refuses_a_file_without_answers(command: Callable[..., Any], content: bytes, text: str) -> None:
    Path("model").mkdir()
    Path("model/config.json").write_text("{}", encoding="utf-8")
    Path("rows.jsonl").write_bytes(content)
    outcome = command("score", "model", "rows.jsonl")
    assert (outcome.status, outcome.out) == (2, "")
    assert text in outcome.err


def test_score_says_which_run_has_no_such_reward_model(command: Callable[..., Any]) -> None:
    folder = Path("runs/small/20260101-000000-000")
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"stages": {}}')
    (folder / "plan.lock.json").write_text('{"stages": {}}')
    Path("rows.jsonl").write_text('{"prompt": "a", "answer": "b"}')
    outcome = command("score", "latest:reward", "rows.jsonl")
    assert (outcome.status, outcome.err) == (
        2,
        f"latest:reward: the run {folder} has no reward-model 'reward'; it has none\n",
    )


@pytest.mark.torch
@pytest.mark.parametrize(("option", "trusted"), [((), False), (("--trust-remote-code",), True)])
def test_score_lets_a_models_code_run_only_where_it_is_asked_to(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...], trusted: bool
) -> None:
    models = pytest.importorskip("harness.engine.models", exc_type=ImportError)

    def load_reward_model(path: Path, compute: Any) -> None:
        raise UsageError(f"trusted: {compute.trust_remote_code}")

    monkeypatch.setattr(models, "load_reward_model", load_reward_model)
    Path("model").mkdir()
    Path("model/config.json").write_text("{}", encoding="utf-8")
    Path("rows.jsonl").write_text('{"prompt": "a", "answer": "b"}', encoding="utf-8")
    assert command("score", "model", "rows.jsonl", *option).err == f"trusted: {trusted}\n"


def test_check_only_reads_the_store(command: Callable[..., Any], plan_text: str) -> None:
    Path("plan.yaml").write_text(plan_text, encoding="utf-8")
    Path("more.jsonl").write_text('{"prompt": "Hello"}\n', encoding="utf-8")
    assert command("check", "plan.yaml", "--store", "new/store").status == 0
    assert not Path("new").exists()
    Path("file").write_text("no store can be made under it", encoding="utf-8")
    outcome = command("check", "plan.yaml", "--store", "file/store")
    assert outcome.status == 0
    assert "[to train]" in outcome.out


def test_check_speaks_of_one_stage_in_the_singular(command: Callable[..., Any]) -> None:
    Path("plan.yaml").write_text(
        "name: one\nbase: {type: tiny}\ndevice: cpu\nprecision: fp32\nthreads: 1\ndata: {toy: {source: toy, pairs: 100}}\n"
        "stages: {sft: {aligner: sft, init: base, data: toy}}\n"
    )
    assert command("check", "plan.yaml").out.startswith("one: 1 stage on cpu, fp32, 1 thread\n")


def test_init_writes_a_plan_that_checks(command: Callable[..., Any]) -> None:
    outcome = command("init", "-o", "mine.yaml")
    assert (outcome.status, outcome.out) == (0, "mine.yaml\n")
    # The packaged plan in full has many pairs; its shape is what is checked here.
    assert command("check", "mine.yaml", "--set", "data.toy.pairs=200").status == 0


def test_the_help_of_init_lists_the_packaged_plans(command: Callable[..., Any]) -> None:
    assert "NAME is one of phase2, phase2-cpu, quickstart." in command("init", "--help").out


def test_init_overwrites_nothing(command: Callable[..., Any]) -> None:
    Path("plan.yaml").write_text("mine", encoding="utf-8")
    outcome = command("init")
    assert (outcome.status, outcome.err) == (2, "plan.yaml: exists; choose another name with -o, or remove it\n")
    assert Path("plan.yaml").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("quikstart",), "no packaged plan 'quikstart'; did you mean \"quickstart\"?"),
        (("-o", "none/plan.yaml"), "none/plan.yaml: No such file or directory"),
    ],
)
def test_init_says_what_is_wrong(command: Callable[..., Any], arguments: tuple[str, ...], text: str) -> None:
    outcome = command("init", *arguments)
    assert outcome.status == 2
    assert text in outcome.err


def test_a_folder_of_the_same_name_does_not_hide_a_packaged_plan(command: Callable[..., Any]) -> None:
    Path("quickstart").mkdir()
    assert command("check", "quickstart", "--set", "data.toy.pairs=200").status == 0


def test_plugins_lists_every_component_with_its_plugin(command: Callable[..., Any]) -> None:
    for arguments in (("plugins",), ("plugins", "list")):
        outcome = command(*arguments)
        assert outcome.status == 0
        rows = [line.split() for line in outcome.out.splitlines()]
        assert rows[0] == ["NAME", "KIND", "PLUGIN", "VERSION"]
        assert ["dpo", "aligner", "aligners", "alignment-harness"] in [row[:4] for row in rows]
        assert {row[1] for row in rows[1:]} == {"aligner", "judge", "metric", "source", "backend"}


def test_the_version_is_that_of_the_distribution(command: Callable[..., Any]) -> None:
    from importlib.metadata import version

    assert command("--version").out == f"harness, version {version('alignment-harness')}\n"


# --- schema ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def schema(command: Callable[..., Any]) -> dict[str, Any]:
    outcome = command("schema")
    assert outcome.status == 0
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def quickstart() -> dict[str, Any]:
    from harness.cli.plans import find_plan
    from harness.plan import read_document

    return read_document(find_plan("quickstart")).values


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(each) for each in value.values()))
    return set().union(*(references(each) for each in value)) if isinstance(value, list) else set()


def test_the_schema_holds_everything_that_it_refers_to(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert references(schema) <= {f"#/$defs/{name}" for name in schema["$defs"]}
    assert "#/$defs/Evaluate" in references(schema)


@pytest.mark.parametrize(("section", "kind"), [("data", "source"), ("stages", "aligner")])
def test_the_schema_knows_the_options_of_every_entry(schema: dict[str, Any], section: str, kind: str) -> None:
    assert "patternProperties" not in schema["properties"][section]  # it would take an entry whatever it holds
    entry = schema["properties"][section]["additionalProperties"]
    branches = {each["if"]["properties"][kind]["const"]: each["then"] for each in entry["allOf"]}
    assert [*branches] == entry["properties"][kind]["enum"]
    for values in quickstart()[section].values():
        branch = branches[values[kind]]
        assert set(branch["required"]) <= set(values) <= set(branch["properties"])
        assert branch["additionalProperties"] is False
        assert "betta" not in branch["properties"]


def test_the_schema_accepts_the_packaged_plan_and_no_unknown_option(schema: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    plan = quickstart()
    assert list(validator.iter_errors(plan)) == []
    stages, evaluate = plan["stages"], plan["evaluate"]
    for place, mapping in {
        ("stages", "dpo"): stages["dpo"],
        ("stages", "ppo", "lora"): stages["ppo"].setdefault("lora", {}),
        ("evaluate",): evaluate,
        ("base",): plan["base"],
    }.items():
        mapping["betta"] = 0.1
        (error,) = validator.iter_errors(plan)
        assert (tuple(error.absolute_path), error.validator) == (place, "additionalProperties")
        assert "'betta' was unexpected" in error.message
        del mapping["betta"]


def test_a_reader_that_goes_away_is_no_bug() -> None:
    done = subprocess.run(
        f"{sys.executable} -m harness schema | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("{", "")


def test_latest_is_the_newest_run_wherever_it_lies_under_runs(tmp_path: Path) -> None:
    for number, name in enumerate(("plan/20260101-000000-000", "mine")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
        os.utime(folder / "run.json", (number, number))
    assert find_run("latest", tmp_path).path == tmp_path / "mine"


def test_a_run_of_a_device_that_is_not_there_answers_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = {"compute": {"device": "cuda", "precision": "bf16", "threads": 3}, "plan": {"trust_remote_code": True}}
    (tmp_path / "plan.lock.json").write_text(json.dumps(lock))
    monkeypatch.setattr("harness.compute.cuda_devices", lambda: 0)
    compute = run_compute(RunFolder(tmp_path))
    assert (compute.device, compute.trust_remote_code) == ("cpu", True)
    monkeypatch.setattr("harness.compute.cuda_devices", lambda: 1)
    monkeypatch.setattr("harness.compute.torch_is_cpu_build", lambda: False)
    assert run_compute(RunFolder(tmp_path)).device == "cuda"


def test_a_terminal_that_lacks_an_arrow_gets_its_escape(tmp_path: Path, plan_text: str) -> None:
    """`check` prints one between a stage and what it gives."""
    (tmp_path / "plan.yaml").write_text(plan_text, encoding="utf-8")
    (tmp_path / "more.jsonl").write_text('{"prompt": "Why?"}\n')
    done = subprocess.run(
        [sys.executable, "-m", "harness", "check", "plan.yaml"],
        capture_output=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert (done.returncode, b"\\u2192" in done.stdout) == (0, True), done.stderr


def test_half_a_character_is_told_with_its_line() -> None:
    with pytest.raises(UsageError, match=r"^answers\.jsonl:3: holds half a character"):
        read_json_line('{"prompt": "a \\ud800", "answer": "b"}', 3, ("prompt", "answer"), "answers.jsonl")
    with pytest.raises(UsageError, match=r"^PROMPT is not UTF-8 text"):
        cli.main(args=["ask", "latest", "a \udcff"], standalone_mode=False)


def test_check_reads_the_data_of_a_plan_that_compares_nothing(tmp_path: Path, command: Callable[..., Any]) -> None:
    plan = "name: p\nbase: {type: tiny}\ndata: {mine: {source: preferences, path: mine.jsonl}}\n"
    (tmp_path / "plan.yaml").write_text(plan + "stages: {sft: {aligner: sft, init: base, data: mine}}\n")
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a", "completion": "b", "label": true}\n')
    outcome = command("check", str(tmp_path / "plan.yaml"))
    assert outcome.status == 1
    assert "data.mine: " in outcome.err
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    outcome = command("check", str(tmp_path / "plan.yaml"))
    assert (outcome.status, "data mine: 1 preferences, 1 roots" in outcome.out) == (0, True)


def test_a_model_of_a_run_is_found_in_the_store_that_is_named(tmp_path: Path) -> None:
    run, model = tmp_path / "run", tmp_path / "kept" / "ab" / "abc"
    for folder in (run, model):
        folder.mkdir(parents=True)
    (model / MARKER).write_text("{}")
    (run / "run.json").write_text(json.dumps({"stages": {"reward": {"status": "done", "key": "abc"}}}))
    (run / "plan.lock.json").write_text(json.dumps({"stages": {"reward": {"gives": "reward-model"}}}))
    assert find_model(f"{run}:reward", "reward-model", tmp_path / "kept") == model
    with pytest.raises(UsageError, match=r"the store .*other does not have it any more; .* give its --store$"):
        find_model(f"{run}:reward", "reward-model", tmp_path / "other")


def test_check_names_the_columns_that_nothing_reads(tmp_path: Path, command: Callable[..., Any]) -> None:
    plan = "name: p\nbase: {type: tiny}\ndata: {mine: {source: preferences, path: mine.jsonl}}\n"
    (tmp_path / "plan.yaml").write_text(plan + "stages: {sft: {aligner: sft, init: base, data: mine}}\n")
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 3}\n')
    assert (
        "data mine: 1 preferences, 1 roots; not read: score_chosen\n" in command("check", str(tmp_path / "plan.yaml")).out
    )


def test_check_forecasts_the_scoring_of_policies_along_a_training(
    tmp_path: Path, plan_text: str, command: Callable[..., Any]
) -> None:
    """Two policies more, the third being the model, on the prompts of the first suite, by each of three criteria."""
    (tmp_path / "more.jsonl").write_text('{"prompt": "Why?"}\n')
    rubric = "truth: {judge: rubric, model: m, base_url: 'http://localhost:9/v1'}"
    calls, prompts = [], 0
    for kept in ("beta: 0.1", "beta: 0.1\n    checkpoints: 3"):
        text = plan_text.replace("truth: {judge: toy-truth}", rubric).replace("beta: 0.1", kept)
        (tmp_path / "plan.yaml").write_text(text)
        out = command("check", str(tmp_path / "plan.yaml")).out
        calls.append(int(out.partition("judge truth: ")[2].partition(" calls")[0].replace(",", "")))
        prompts = int(out.partition("suite held: ")[2].partition(" prompts")[0])
    assert calls[1] - calls[0] == 2 * prompts * 3
