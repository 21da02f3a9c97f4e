"""What every test keeps to: it leaves the environment, the working directory and the checkout as they were."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness

ROOT = Path(__file__).resolve().parents[1]
UNDER_TOX = "TOX_ENV_NAME" in os.environ
OTHERS = ("PYTEST_", "ACCELERATE_", "TORCH", "_TORCH", "KMP_", "KINETO_", "TRITON_", "CUBLAS_", "GOMP_")
"""Variables of pytest, those that torch and accelerate set for their own subprocesses, and what the command line sets for libgomp."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--distributions", type=Path, help="the folder with the wheel and the source distribution to look into"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The tests of the built distributions run where these have been built: in `tox -e pkg`."""
    return True if collection_path.name == "test_distributions.py" and not config.getoption("--distributions") else None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Under tox the tests are about the built wheel, never about the checkout that lies beside them."""
    if UNDER_TOX and not Path(harness.__file__).is_relative_to(sysconfig.get_path("purelib")):
        raise pytest.UsageError(f"harness is imported from {harness.__file__}, not from the installed wheel")


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    """Fail a test that leaves a trace. Set up before `monkeypatch`, so that what that one restores is restored by now."""
    environment, folder, files = _environment(), Path.cwd(), _checkout()
    yield
    changed = {name for name, _ in environment.items() ^ _environment().items()}
    left = Path.cwd()
    os.chdir(folder)
    assert not changed, f"the test changed the environment: {', '.join(sorted(changed))}"
    assert left == folder, f"the test changed the working directory to {left}"
    created = _checkout() - files
    assert not created, f"the test left files in the checkout: {', '.join(sorted(created))}"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}


def _checkout() -> set[str]:
    """Every file of the checkout but caches. In CI only: elsewhere somebody may be at work in it."""
    if "CI" not in os.environ:
        return set()
    found = set()
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in {"__pycache__", "runs"}]
        found |= {os.path.join(folder, name) for name in names}  # noqa: PTH118
    return found
