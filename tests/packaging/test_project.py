"""pyproject.toml tells the truth: packages, package data, dependencies, and what is pinned."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = {
    "harness": "harness",
    "harness_plugins": "plugins",
    "harness_reports": "reports",
    "harness_benchmarks": "benchmarks",
}
SETUPTOOLS = PROJECT["tool"]["setuptools"]
DEPENDENCIES = PROJECT["project"]["dependencies"]
INDIRECT = {"accelerate", "openai", "peft"}
"""Declared though nothing imports them by name: transformers' Trainer and adapters need the first and the last."""
DISTRIBUTIONS = {"huggingface_hub": "huggingface-hub", "pydantic_core": "pydantic", "ruamel": "ruamel.yaml"}
"""Modules that come with a distribution of another name; pydantic pins its core exactly."""


def name_of(requirement: str) -> str:
    return requirement.partition(">=")[0]


def sources() -> Iterator[Path]:
    for folder in FOLDERS.values():
        yield from (path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def pinned() -> dict[str, str]:
    """The versions of constraints.txt, by name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def test_the_package_list_is_the_folders() -> None:
    folders = {
        ".".join([package, *path.parent.relative_to(ROOT / folder).parts])
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert set(SETUPTOOLS["packages"]) == folders
    assert SETUPTOOLS["package-dir"] == FOLDERS


def test_every_data_file_of_the_folders_is_package_data() -> None:
    """A template or a suite that no pattern matches would be missing from the wheel."""
    for package in SETUPTOOLS["packages"]:
        top, *rest = package.split(".")
        folder = ROOT.joinpath(FOLDERS[top], *rest)
        kept = {path for pattern in SETUPTOOLS["package-data"].get(package, []) for path in folder.glob(pattern)}
        inherited = {
            path
            for pattern in SETUPTOOLS["package-data"].get(top, [])
            for path in ROOT.joinpath(FOLDERS[top]).glob(pattern)
        }
        here = {path for path in folder.iterdir() if path.is_file() and path.suffix not in {".py", ".pyc", ".md"}}
        assert here <= kept | inherited, package


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    imported = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(str(node.module).partition(".")[0])
    third_party = {DISTRIBUTIONS.get(name, name) for name in imported - set(sys.stdlib_module_names) - set(FOLDERS)}
    declared = {name_of(each) for each in DEPENDENCIES}
    assert third_party - declared == set()
    assert declared - third_party <= INDIRECT


def test_the_torch_free_group_repeats_the_bounds_of_the_dependencies() -> None:
    assert set(PROJECT["dependency-groups"]["torch-free"]) <= set(DEPENDENCIES)


def test_every_dependency_has_a_lower_bound_and_a_pin_above_it() -> None:
    version = pytest.importorskip("packaging.version").Version
    pins = pinned()
    groups = [DEPENDENCIES, *PROJECT["project"]["optional-dependencies"].values(), *PROJECT["dependency-groups"].values()]
    for requirement in {each for group in groups for each in group}:
        name, _, bound = requirement.partition(">=")
        assert bound, requirement
        assert version(pins[name]) >= version(bound), requirement


def test_the_installed_version_is_the_projects() -> None:
    assert importlib.metadata.version("alignment-harness") == PROJECT["project"]["version"]


def test_the_changelog_has_the_version() -> None:
    assert f"## [{PROJECT['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.torch
def test_the_list_of_training_arguments_is_that_of_transformers() -> None:
    import dataclasses
    import importlib.resources

    transformers = pytest.importorskip("transformers")
    if transformers.__version__ != pinned()["transformers"]:
        pytest.skip("the list is that of the pinned version")
    listed = (importlib.resources.files("harness.plan") / "training_arguments.txt").read_text(encoding="utf-8").split()
    assert listed == sorted(field.name for field in dataclasses.fields(transformers.TrainingArguments))
