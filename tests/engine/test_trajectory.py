"""Policies kept along a training: which steps, that each is a model of its own, and that training goes on as if none were."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
import small  # noqa: E402
from small import Recorder  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from harness.components import Artifact, LoraOptions  # noqa: E402
from harness.engine.lora import add_lora, trainable_state  # noqa: E402
from harness.engine.trajectory import Trajectory  # noqa: E402
from harness.trajectory import along, split  # noqa: E402

pytestmark = pytest.mark.torch


class NoTokenizer:
    def save_pretrained(self, folder: Path) -> None:
        """Nothing: these models have none."""


def kept(folder: Path, count: int, steps: int) -> list[str]:
    trajectory = Trajectory(small.llama(), NoTokenizer(), count, Recorder(folder))
    for step in range(1, steps + 1):
        trajectory.keep(step, steps)
    trajectory.collect()
    return [each.name for each in along(Artifact("ppo", "model", folder / "output", "key"))]


def test_policies_are_kept_at_equal_distances_and_the_last_is_not_kept_twice(tmp_path: Path) -> None:
    assert kept(tmp_path / "a", 4, 12) == ["ppo@3", "ppo@6", "ppo@9"]
    # 7 · 1/3 and 7 · 2/3, rounded down
    assert kept(tmp_path / "b", 3, 7) == ["ppo@2", "ppo@4"]
    assert kept(tmp_path / "c", 1, 5) == []
    assert kept(tmp_path / "d", 0, 5) == []
    assert kept(tmp_path / "e", 9, 2) == ["ppo@1"]


def test_each_has_a_key_of_its_own(tmp_path: Path) -> None:
    kept(tmp_path, 2, 10)
    (policy,) = along(Artifact("ppo", "model", tmp_path / "output", "key"))
    assert (policy.key, policy.path) == ("key@5", tmp_path / "output" / "trajectory" / "5")
    assert (split("ppo@5"), split("ppo")) == (("ppo", 5), ("ppo", None))


def test_what_is_kept_opens_to_what_the_policy_was_then_adapters_merged(tmp_path: Path) -> None:
    model = small.llama()
    add_lora(model, LoraOptions(r=2), seed=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    ids = torch.tensor([[5, 6, 7, 8]])
    expected: Any = model(ids).logits
    before = {name: weight.clone() for name, weight in trainable_state(model).items()}
    trajectory = Trajectory(model, NoTokenizer(), 2, Recorder(tmp_path))
    trajectory.keep(1, 2)
    assert small.same_bits(before, trainable_state(model))
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    trajectory.collect()
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "output" / "trajectory" / "1")
    torch.testing.assert_close(opened(ids).logits, expected, rtol=1e-5, atol=1e-5)


def test_a_policy_kept_before_an_interruption_is_there_afterwards(tmp_path: Path) -> None:
    Trajectory(small.llama(), NoTokenizer(), 3, Recorder(tmp_path)).keep(2, 6)
    resumed = Trajectory(small.llama(), NoTokenizer(), 3, Recorder(tmp_path))
    resumed.keep(4, 6)
    resumed.collect()
    # A kill before the artifact is whole empties the output; the next try collects them again.
    shutil.rmtree(tmp_path / "output" / "trajectory")
    resumed.collect()
    assert [each.name for each in along(Artifact("dpo", "model", tmp_path / "output", "key"))] == ["dpo@2", "dpo@4"]
