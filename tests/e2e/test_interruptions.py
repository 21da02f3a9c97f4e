"""A run that is interrupted, killed or fails goes on where it stopped, to the metrics of an undisturbed one."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from micro import PLAN, command, estimates, harness

from harness.rundir import RunFolder

pytestmark = pytest.mark.torch


def start(folder: Path, plan: str = "plan.yaml") -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("run", plan, "--out", "run"), cwd=folder, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )


def heed_interrupts() -> None:
    """Undo what a shell does to its background jobs, which inherit that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def checkpoint(folder: Path, pattern: str) -> Callable[[], bool]:
    return lambda: any((folder / "runs" / ".store").glob(f"*/.*.partial/checkpoints/{pattern}"))


def test_a_killed_trainer_goes_on_from_its_checkpoint(home: Path, write_plan: Callable[..., Path]) -> None:
    """PPO, which alone saves at step 2; fine-tuning is killed below."""
    folder = write_plan().parent
    process = start(folder)
    wait_for(process, checkpoint(folder, "step-00000002/checkpoint.json"))
    process.kill()
    process.communicate()
    done = harness(folder, "run", "plan.yaml", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "goes on from" in done.stderr
    assert estimates(folder / "run") == estimates(home / "first")
    assert list(RunFolder(folder / "run").scalars()) == list(RunFolder(home / "first").scalars())


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(home: Path, write_plan: Callable[..., Path]) -> None:
    folder = write_plan().parent
    process = start(folder)
    wait_for(process, checkpoint(folder, "step-00000020/checkpoint.json"))
    process.kill()
    process.communicate()
    before, newest = sorted((folder / "runs" / ".store").glob("*/.*.partial/checkpoints/step-*"))
    state = newest / "state.pt"
    state.write_bytes(state.read_bytes()[:-100])
    done = harness(folder, "run", "plan.yaml", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert f"goes on from its checkpoint at step {int(before.name.removeprefix('step-'))}\n" in done.stderr
    assert estimates(folder / "run") == estimates(home / "first")
    assert list(RunFolder(folder / "run").scalars()) == list(RunFolder(home / "first").scalars())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(write_plan: Callable[..., Path], number: signal.Signals) -> None:
    folder = write_plan().parent
    process = start(folder)
    wait_for(process, checkpoint(folder, "step-00000010/checkpoint.json"))
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again, and it goes on where it stopped" in errors
    assert "Traceback" not in errors
    assert RunFolder(folder / "run").run()["status"] == "interrupted"


def killed_and_run_again(folder: Path, plan: str, moment: float) -> list[Mapping[str, Any]]:
    """The estimates of a run that was killed after so many seconds, and then run to its end."""
    process = start(folder, plan)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
    done = harness(folder, "run", plan, "--out", "run")
    assert done.returncode == 0, done.stderr
    return estimates(folder / "run")


@pytest.mark.slow
def test_twenty_kills_of_the_micro_plan(home: Path, tmp_path: Path) -> None:
    clock = random.Random(17)
    length = RunFolder(home / "first").run()["seconds"]
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "plan.yaml").write_text(PLAN)
        assert killed_and_run_again(folder, "plan.yaml", clock.uniform(0.5, length)) == estimates(home / "first")


@pytest.mark.slow
def test_three_kills_of_the_quickstart(tmp_path: Path) -> None:
    clock = random.Random(17)
    undisturbed = harness(tmp_path, "run", "quickstart", "--out", "undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr
    length = RunFolder(tmp_path / "undisturbed").run()["seconds"]
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        metrics = killed_and_run_again(folder, "quickstart", clock.uniform(5, length))
        assert metrics == estimates(tmp_path / "undisturbed")
