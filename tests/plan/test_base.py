"""A starting model on this machine is looked at when a plan is checked, without torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import PlanError, UsageError
from harness.models import base_identity
from harness.plan import Graph, check, parse_document
from harness.plan.base import base_problem
from harness.plugins import load_plugins

MODEL = ("config.json", "model.safetensors", "tokenizer.json")


def problem(folder: Path, base: str, *names: str, code: bool = False) -> str | None:
    (folder / "model").mkdir()
    for name in names:
        (folder / "model" / name).touch()
    return base_problem(base, folder, code)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ((), "no safetensors weights; give the folder that holds the model"),
        (("config.json", "pytorch_model.bin"), "no safetensors weights; pickled weights can run code and are refused"),
        (("small.gguf",), "no safetensors weights; name the file in it, small.gguf"),
        (("model.safetensors", "tokenizer.json"), "no config.json; give the folder that holds the model"),
        (("config.json", "model.safetensors"), "no tokenizer files in this folder, such as tokenizer.json"),
    ],
)
def test_a_folder_that_lacks_something_is_told(tmp_path: Path, names: tuple[str, ...], text: str) -> None:
    assert (problem(tmp_path, "model", *names) or "").startswith(text)


@pytest.mark.parametrize("tokenizer", ["tokenizer.json", "vocab.json", "spiece.model", "qwen.tiktoken"])
def test_a_whole_folder_is_none(tmp_path: Path, tokenizer: str) -> None:
    assert problem(tmp_path, "./model", "config.json", "model-00001-of-00002.safetensors", tokenizer) is None


def test_code_of_its_own_may_need_no_tokenizer_files(tmp_path: Path) -> None:
    assert problem(tmp_path, "model", "config.json", "model.safetensors", code=True) is None


def test_an_adapter_may_need_no_tokenizer_files(tmp_path: Path) -> None:
    assert problem(tmp_path, "model", "adapter_config.json", "adapter_model.safetensors") is None


@pytest.mark.parametrize("base", ["./none", "/none/at/all", "~/none-at-all", "a/b/c", "small.gguf", "org/name/model.gguf"])
def test_what_can_only_be_a_path_and_is_not_there(tmp_path: Path, base: str) -> None:
    assert base_problem(base, tmp_path, False) == "there is no such file or folder; paths count from the plan's folder"


@pytest.mark.parametrize("base", ["gpt2", "org/name", "org/name@v1.0"])
def test_what_may_be_elsewhere_is_not_looked_for(tmp_path: Path, base: str) -> None:
    assert base_problem(base, tmp_path, False) is None


@pytest.mark.parametrize(
    ("base", "text"),
    [
        ("package://", "names no file in a package; write package://PACKAGE/file.gguf"),
        ("package:///x.gguf", "names no file in a package; write"),
        ("package://harness", "names no file in a package; write"),
        ("package://nope/x.gguf", "there is no package nope; install it, or give a Hub id or a folder"),
        ("package://nope.deep/x.gguf", "there is no package nope.deep; install it"),
        ("package://__main__/x.gguf", "there is no package __main__; install it"),
        ("package://this/x.gguf", "there is no package this; install it"),  # a module, which is no folder
        ("package://harness/x.gguf", "the package harness has no file x.gguf"),
    ],
)
def test_a_file_in_a_package_is_a_problem_of_the_plan(tmp_path: Path, base: str, text: str) -> None:
    plan = (
        f"name: x\nbase: {base}\ndata: {{toy: {{source: toy}}}}\nstages: {{sft: {{aligner: sft, init: base, data: toy}}}}\n"
    )
    with pytest.raises(PlanError) as caught:
        check(parse_document(plan, str(tmp_path / "plan.yaml")), load_plugins().registry())
    (found,) = caught.value.problems
    assert (found.line, found.path, found.text.partition(text)[0]) == (2, "base", "")


def test_a_file_that_a_package_has_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "holder").mkdir()
    (tmp_path / "holder" / "__init__.py").touch()
    (tmp_path / "holder" / "small.gguf").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert base_problem("package://holder/small.gguf", tmp_path, False) is None


def on_base(folder: Path, base: str) -> Graph:
    plan = "name: x\nbase: {type: tiny}\ndata: {toy: {source: toy}}\nstages: {sft: {aligner: sft, init: base, data: toy}}\n"
    graph = check(parse_document(plan, str(folder / "plan.yaml")), load_plugins().registry())
    return replace(graph, plan=graph.plan.model_copy(update={"base": base}))


def test_what_a_package_of_no_name_depends_on_is_a_mistake_of_the_users(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="base package://: names no file in a package"):
        base_identity(on_base(tmp_path, "package://"), list)


def test_a_package_that_was_not_installed_is_known_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "holder" / "small.gguf"
    file.parent.mkdir()
    file.write_bytes(b"GGUF")
    (file.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    files = base_identity(on_base(tmp_path, "package://holder/small.gguf"), list)["files"]
    assert files == [["small.gguf", 4, file.stat().st_mtime_ns]]


def test_a_file_is_a_gguf(tmp_path: Path) -> None:
    assert problem(tmp_path, "model/small.gguf", "small.gguf") is None
    (tmp_path / "model" / "weights.pt").touch()
    assert (base_problem("model/weights.pt", tmp_path, False) or "").startswith(
        "is a file, and not a GGUF one; give the folder"
    )


def test_no_such_home_is_told(tmp_path: Path) -> None:
    assert (base_problem("~nobody-of-this-name/x", tmp_path, False) or "").startswith("cannot be read: ")


def test_it_is_a_problem_of_the_plan_with_the_others(tmp_path: Path) -> None:
    text = "name: x\nbase: ./none\ndata: {toy: {source: toi}}\nstages: {sft: {aligner: sft, init: base, data: toy}}\n"
    with pytest.raises(PlanError) as caught:
        check(parse_document(text, str(tmp_path / "plan.yaml")), load_plugins().registry())
    assert [(each.line, each.path) for each in caught.value.problems] == [(2, "base"), (3, "data.toy.source")]


def test_a_name_in_a_folder_of_the_users_is_no_hub_id(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    assert base_problem("models/typo", tmp_path, trust_remote_code=False) == (
        "there is no such file or folder; paths count from the plan's folder"
    )
    assert base_problem("owner/model", tmp_path, trust_remote_code=False) is None
