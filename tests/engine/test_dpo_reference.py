"""The reference's log-probabilities are kept for what was read: the same model and the same tokens."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
from harness_plugins.aligners.dpo import DPO

import harness

pytestmark = pytest.mark.torch


class Context(harness.StageContext):
    """Keeps what it is told to keep things by."""

    name, seed, compute = "dpo", 1, harness.Compute("cpu", "fp32", 1)

    def __init__(self, folder: Path) -> None:
        self.output, self.checkpoints, self.identities = folder / "output", folder / "checkpoints", list[Any]()
        for path in (self.output, self.checkpoints):
            path.mkdir(parents=True)

    def log(self, step: int, values: Mapping[str, float], total: int | None = None) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def keep(self, what: str, identity: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        self.identities.append((what, dict(identity)))
        build(self.output)
        return self.output


def kept(folder: Path, base: Path, **options: Any) -> Any:
    rows = tuple(
        harness.Preference(
            id=str(number),
            root=str(number),
            prompt=(harness.Message(role="user", content=f"question {number}"),),
            chosen="yes indeed",
            rejected="no",
        )
        for number in range(4)
    )
    context = Context(folder)
    inputs = {
        "init": harness.Artifact("base", "model", base, "1"),
        "data": harness.Dataset("rows", "preferences", rows, "2"),
    }
    DPO().run(DPO.Config(max_steps=1, per_device_train_batch_size=4, **options), inputs, context)  # type: ignore[arg-type]
    ((what, identity),) = context.identities
    assert what == "reference log-probabilities"
    return identity


def test_another_beta_reads_what_was_kept_and_other_tokens_do_not(tmp_path: Path, base: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    template = other / "chat_template.jinja"
    template.write_text("{{- 'Today: Sunday' }}" + template.read_text())
    first = kept(tmp_path / "1", base)
    assert kept(tmp_path / "2", base, beta=0.5) == first
    assert kept(tmp_path / "3", other) != first
