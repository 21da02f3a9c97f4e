"""Importing costs little: every module in one fresh interpreter, warnings as errors, nothing heavy pulled in."""

from __future__ import annotations

import importlib
import importlib.util
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("harness", "harness_plugins", "harness_reports", "harness_benchmarks")
HEAVY = {"torch", "scipy", "transformers", "trl", "matplotlib", "datasets", "tokenizers", "peft", "accelerate", "openai"}
NEEDS_TORCH = {"harness_plugins.aligners.ppo_rewards", "harness_plugins.aligners.ppo_training"}
"""Outside the engine, the only modules that import torch at their top: what a stage imports when it runs."""
IMPORT = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def modules() -> Iterator[str]:
    """Every module of the distribution."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        yield package
        for found in pkgutil.walk_packages(list(spec.submodule_search_locations), f"{package}."):
            if not found.name.endswith("__main__"):
                yield found.name


def needs_torch(name: str) -> bool:
    return name in NEEDS_TORCH or name.startswith("harness.engine.")


def imported_by(names: list[str], folder: Path, *flags: str) -> set[str]:
    """The top-level modules that are loaded once these have been imported."""
    command = [sys.executable, *flags, "-c", IMPORT, json.dumps(names)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout))


def test_every_module_imports_without_warnings_and_without_anything_heavy(tmp_path: Path) -> None:
    names = [name for name in modules() if not needs_torch(name)]
    assert {"harness.cli.run", "harness_plugins.aligners.ppo", "harness_reports.charts"} <= set(names)
    assert not imported_by(names, tmp_path, "-W", "error") & HEAVY


def test_importing_harness_imports_no_pydantic(tmp_path: Path) -> None:
    assert "pydantic" not in imported_by(["harness"], tmp_path, "-W", "error")


@pytest.mark.torch
def test_the_modules_of_the_engine_import(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    names = [name for name in modules() if needs_torch(name)]
    assert "torch" in imported_by(names, tmp_path)


def test_exports_match() -> None:
    """`__all__` of the public API is sorted, complete, and every name in it can be imported."""
    import harness

    assert sorted(harness.__all__) == sorted({*harness._HOME, "hookimpl"})
    assert all(getattr(harness, name) is not None for name in harness.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = harness.nothing


def test_every_name_in_all_exists_once() -> None:
    exports = {name: getattr(importlib.import_module(name), "__all__", []) for name in modules() if not needs_torch(name)}
    assert not [name for name, names in exports.items() if len(set(names)) < len(names)]
    assert not [(name, each) for name, names in exports.items() for each in names if not hasattr(sys.modules[name], each)]
