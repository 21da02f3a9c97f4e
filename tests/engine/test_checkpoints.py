"""Checkpoints: whole or not at all, checked before use, two kept."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from harness.engine.checkpoints import load_checkpoint, save_checkpoint  # noqa: E402

pytestmark = pytest.mark.torch


def save(folder: Path, step: int) -> None:
    save_checkpoint(folder, step, {"weight": torch.full((4,), float(step)), "steps": [step]})


def found(folder: Path) -> tuple[int, list[float]] | None:
    loaded = load_checkpoint(folder, "cpu")
    return None if loaded is None else (loaded[0], loaded[1]["weight"].tolist())


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, "cpu") is None
    assert load_checkpoint(tmp_path / "none", "cpu") is None


def test_the_newest_is_used_and_two_are_kept(tmp_path: Path) -> None:
    for step in (9, 10, 11):
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000011"]
    assert found(tmp_path) == (11, [11.0] * 4)


def test_one_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 3)
    save_checkpoint(tmp_path, 3, {"weight": torch.zeros(4)})
    assert found(tmp_path) == (3, [0.0] * 4)


def test_what_an_interruption_leaves_is_not_a_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 10)
    (tmp_path / ".step-00000011.1.tmp").mkdir()
    (tmp_path / "step-00000012").mkdir()
    assert found(tmp_path) == (10, [10.0] * 4)


def test_one_that_does_not_fit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 10)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 11)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "not JSON", "no digest"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: str) -> None:
    for step in (10, 11):
        save(tmp_path, step)
    state, about = tmp_path / "step-00000011" / "state.pt", tmp_path / "step-00000011" / "checkpoint.json"
    content = state.read_bytes()
    if damage == "cut":
        state.write_bytes(content[:-7])
    elif damage == "flipped":
        at = content.index(torch.full((4,), 11.0).numpy().tobytes())
        state.write_bytes(content[:at] + b"\1" + content[at + 1 :])
    elif damage == "not JSON":
        about.write_text("{")
    else:
        about.write_text('{"step": 11}')
    assert found(tmp_path) == (10, [10.0] * 4)
