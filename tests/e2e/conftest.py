"""The micro plan, run once for all tests, and a way to write variations of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from micro import PLAN, harness


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the micro plan, run once: its run folder is `first`, its store runs/.store."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "plan.yaml").write_text(PLAN)
    done = harness(folder, "run", "plan.yaml", "--out", "first")
    assert done.returncode == 0, done.stderr
    (folder / "first.log").write_text(done.stderr)
    return folder


@pytest.fixture
def write_plan(tmp_path: Path) -> Callable[..., Path]:
    """Write the micro plan, with replacements, into a folder of its own."""

    def write(*replacements: tuple[str, str]) -> Path:
        text = PLAN
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "plan.yaml"
        path.write_text(text)
        return path

    return write
