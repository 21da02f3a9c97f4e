"""What a running stage logs: kept beside its checkpoints, cut back to one when it goes on from there, never NaN."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from harness.components import Compute
from harness.context import TRAIN_LOG, PeakMemory, RunningStage, read_train_log
from harness.errors import StageError
from harness.store import Workspace

Told = list[tuple[int, dict[str, float], bool]]


def stage(folder: Path, told: Told) -> RunningStage:
    work = Workspace(folder / "output", folder / "checkpoints")
    for path in (work.output, work.checkpoints):
        path.mkdir(exist_ok=True)
    return RunningStage(
        "dpo",
        1,
        Compute("cpu", "fp32", 1),
        work,
        on_log=lambda step, values, _, again: told.append((step, dict(values), again)),
        on_note=lambda _: None,
        keep=lambda *_: folder,
    )


def test_scalars_after_a_checkpoint_are_forgotten_and_those_before_it_told_again(tmp_path: Path) -> None:
    first = stage(tmp_path, [])
    for step in (1, 2, 3):
        first.log(step, {"loss": float(step)})
    told: Told = []
    second = stage(tmp_path, told)
    second.rewind(2)
    second.log(3, {"loss": 30.0})
    second.finish()
    assert told == [(1, {"loss": 1.0}, True), (2, {"loss": 2.0}, True), (3, {"loss": 30.0}, False)]
    kept = list(read_train_log(tmp_path / "output" / TRAIN_LOG))
    assert [(row["step"], row["values"]["loss"]) for row in kept] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_what_earlier_tries_spent_up_to_the_checkpoint_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 seconds to step 1, 25 to step 2; killed; the second try goes on from step 1 and is 3 seconds at step 2."""
    clock = iter([0.0, 10.0, 25.0, 100.0, 103.0, 200.0, 201.5])
    monkeypatch.setattr("harness.context.time.monotonic", lambda: next(clock))
    first = stage(tmp_path, [])
    first.log(1, {"loss": 1.0})
    first.log(2, {"loss": 2.0})
    second = stage(tmp_path, [])
    second.rewind(1)
    assert second.earlier_seconds == 10.0
    second.log(2, {"loss": 2.0})
    third = stage(tmp_path, [])
    third.rewind(2)
    assert third.earlier_seconds == 13.0
    third.log(3, {"loss": 3.0})
    third.finish()
    assert "seconds" not in (tmp_path / "output" / TRAIN_LOG).read_text()


def test_a_kill_after_the_training_leaves_its_log_to_the_next_try(tmp_path: Path) -> None:
    first = stage(tmp_path, [])
    for step in (1, 2):
        first.log(step, {"loss": float(step)})
    first.finish()
    (tmp_path / "output" / TRAIN_LOG).unlink()  # as the store empties the output of an unfinished try
    second = stage(tmp_path, [])
    second.rewind(2)
    second.finish()
    assert [row["step"] for row in read_train_log(tmp_path / "output" / TRAIN_LOG)] == [1, 2]


def test_a_stage_that_starts_anew_forgets_an_earlier_try(tmp_path: Path) -> None:
    stage(tmp_path, []).log(1, {"loss": 1.0})
    again = stage(tmp_path, [])
    again.log(1, {"loss": 2.0})
    again.finish()
    assert [row["values"]["loss"] for row in read_train_log(tmp_path / "output" / TRAIN_LOG)] == [2.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_stage(tmp_path: Path, value: float) -> None:
    with pytest.raises(StageError, match=r"stage 'dpo': policy_loss is (nan|inf) at step 7.*learning_rate"):
        stage(tmp_path, []).log(7, {"policy_loss": value})


def test_another_scalar_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    told: Told = []
    stage(tmp_path, told).log(1, {"loss": 1.0, "explained_variance": math.nan})
    assert told == [(1, {"loss": 1.0}, False)]


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"step": 1, "values": {}}\n{"step": 2, "val')
    assert [row["step"] for row in read_train_log(tmp_path / "log")] == [1]


@pytest.mark.torch
def test_the_peak_of_a_gpu_is_of_the_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own counter goes on from step to step: it is asked, and set back, before and after each."""
    torch = pytest.importorskip("torch")
    peak = [700]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peak[0])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: peak.__setitem__(0, 0))
    with PeakMemory("cuda") as memory:
        peak[0] += 300
    assert memory.device_bytes == 300
    assert peak == [0]
    with PeakMemory("cpu") as memory:
        kept = b"x" * 2**20
    assert memory.device_bytes is None
    assert memory.bytes >= len(kept)


@pytest.mark.torch
def test_a_gpu_that_was_not_used_held_nothing() -> None:
    pytest.importorskip("torch")
    with PeakMemory("cuda") as memory:
        pass
    assert memory.device_bytes is None
