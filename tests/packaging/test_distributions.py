"""What is in the wheel and in the source distribution. Run by `tox -e pkg`, which builds both."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "harness": "harness",
    "plugins": "harness_plugins",
    "reports": "harness_reports",
    "benchmarks": "harness_benchmarks",
}
SHIPPED = {".py", ".txt", ".j2", ".css", ".yaml", ".jsonl", ".typed"}
FORBIDDEN = {".pyc", ".pt", ".safetensors", ".gguf", ".html", ".csv"}


@pytest.fixture
def distributions(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.config.getoption("--distributions")
    return folder


@pytest.fixture
def wheel(distributions: Path) -> set[str]:
    (path,) = distributions.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


@pytest.fixture
def sdist(distributions: Path) -> set[str]:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {str(PurePosixPath(*PurePosixPath(member.name).parts[1:])) for member in archive if member.isfile()}


def tracked() -> set[str]:
    """The files of the checkout that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip("not a git checkout")
    return {name for name in result.stdout.splitlines() if (ROOT / name).is_file()}


def test_the_wheel_holds_every_source_and_data_file(wheel: set[str]) -> None:
    expected = set()
    for name in tracked():
        top, _, rest = name.partition("/")
        if top in FOLDERS and PurePosixPath(name).suffix in SHIPPED | {""} and rest:
            expected.add(f"{FOLDERS[top]}/{rest}")
    assert len(expected) > 100
    assert expected - wheel == set()


def test_the_wheel_holds_nothing_else(wheel: set[str]) -> None:
    assert {PurePosixPath(name).parts[0] for name in wheel if ".dist-info/" not in name} == set(FOLDERS.values())
    assert not {name for name in wheel if PurePosixPath(name).suffix in FORBIDDEN}
    assert not {name for name in wheel if "/tests/" in name}


def test_the_wheel_has_its_command_its_plugins_and_its_licence(distributions: Path) -> None:
    (path,) = distributions.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        info = next(name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
        licence = archive.read(f"{info}/licenses/LICENSE").decode()
    assert "harness = harness.cli:main" in entry_points
    assert entry_points.count(" = harness_plugins.") == 6
    assert "Requires-Python: >=3.11" in metadata
    assert "Apache License" in licence


def test_the_source_distribution_can_build_and_test_itself(sdist: set[str]) -> None:
    assert {"pyproject.toml", "README.md", "LICENSE", "tox.ini", "constraints.txt"} <= sdist
    kept = {name for name in tracked() if name.partition("/")[0] in {*FOLDERS, "tests", "docs"}}
    assert kept - sdist == set()


def test_distributions_are_small(distributions: Path) -> None:
    """Neither holds a data set or a model by accident."""
    assert all(path.stat().st_size < 1_000_000 for path in distributions.iterdir())
